"""Features as they are named on the command line."""

from collections.abc import Sequence
from typing import Annotated

import typer

from featurestore.cli.completion import complete_features

FeaturesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SERVICE|VIEW:FEATURE,...",
        help="A feature service, or features by name.",
        autocompletion=complete_features,
    ),
]


def feature_request(arguments: Sequence[str]) -> str | list[str]:
    """Return what a request for features takes: a service's name, or a list of `view:feature`.

    An argument holds one reference or several, joined by commas. A feature's name may hold commas
    itself, but never a colon: a piece without one belongs to the name before it.
    """
    references = [reference for argument in arguments for reference in _references(argument)]
    is_service = len(references) == 1 and ":" not in references[0]
    return references[0] if is_service else references


def _references(argument: str) -> list[str]:
    first, *rest = argument.split(",")
    references = [first.strip()]
    for piece in rest:
        if ":" in piece or ":" not in references[-1]:
            references.append(piece.strip())
        else:
            references[-1] += f",{piece}"
    return [reference for reference in references if reference]
