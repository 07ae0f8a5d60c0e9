"""The option `--view` of commands that go over all views that are served online."""

from typing import Annotated

import typer

from featurestore.cli.completion import complete_views

Views = Annotated[
    list[str] | None,
    typer.Option(
        "--view",
        metavar="NAME",
        help="Only this view; may be repeated [default: all online].",
        autocompletion=complete_views,
    ),
]
