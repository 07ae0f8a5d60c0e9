"""What the commands of spines take: their options, with help and completion."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from featurestore.cli.completion import (
    complete_event_sources,
    complete_features,
    complete_functions,
)


class Keep(StrEnum):
    """Which of several rows with the same keys and time stays."""

    FIRST = "first"
    LAST = "last"


class Conflicts(StrEnum):
    """What becomes of rows with the same keys and time, but different labels."""

    RAISE = "raise"
    KEEP = "keep"
    DROP = "drop"


class Immature(StrEnum):
    """What becomes of rows whose label cannot be known yet."""

    NULL = "null"
    DROP = "drop"
    RAISE = "raise"


Of = Annotated[
    str,
    typer.Argument(
        metavar="VIEW|SOURCE",
        help="Whose events; view/x or source/x where both have one name.",
        autocompletion=complete_event_sources,
    ),
]
Keys = Annotated[
    list[str] | None,
    typer.Option(
        "--key",
        metavar="COLUMN",
        help="Key column of a source; may be repeated. Views have theirs.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the spine to a Parquet file."),
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="Rows to print without --output.")]
MaxRows = Annotated[
    int, typer.Option("--max-rows", min=1, metavar="N", help="Refuse to make more rows than this.")
]
Sample = Annotated[
    int | None, typer.Option("--sample", min=0, metavar="N", help="Keep so many rows.")
]
Fraction = Annotated[
    float | None,
    typer.Option("--fraction", min=0, max=1, metavar="F", help="Or keep this share of them."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Chooses the sample.")]
By = Annotated[
    list[str] | None,
    typer.Option(
        "--by", metavar="COLUMN", help="Sample each group of these values; may be repeated."
    ),
]
Deduplicate = Annotated[
    Keep | None, typer.Option("--deduplicate", help="Keep one row of each keys and time.")
]
OnConflict = Annotated[
    Conflicts, typer.Option("--conflicts", help="Of duplicates whose labels differ.")
]
SpineFile = Annotated[Path, typer.Argument(metavar="SPINE", help="Parquet file of a spine.")]
LabelName = Annotated[str, typer.Argument(metavar="NAME", help="What the label is called.")]
Window = Annotated[
    str, typer.Option("--window", metavar="DURATION", help="How long after a row's time.")
]
AfterOf = Annotated[
    str | None,
    typer.Option(
        "--of",
        metavar="VIEW|SOURCE",
        help="Whose events after a row's time are meant.",
        autocompletion=complete_event_sources,
    ),
]
AsOf = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="VIEW:FEATURE",
        help="Or the value of a feature at the window's end.",
        autocompletion=complete_features,
    ),
]
Function = Annotated[
    str,
    typer.Option(
        "--aggregation",
        metavar="FUNCTION",
        help="count, sum, max, first, ..., exists.",
        autocompletion=complete_functions,
    ),
]
FunctionColumn = Annotated[
    str, typer.Option("--column", metavar="COLUMN", help="Of which column; * is the events.")
]
Where = Annotated[
    str | None, typer.Option("--where", metavar="SQL", help="Predicate of events that count.")
]
Empty = Annotated[
    float | None, typer.Option("--empty", help="What there is without such an event.")
]
JoinKeys = Annotated[
    list[str] | None,
    typer.Option("--join-key", metavar="KEY=COLUMN", help="Key of the events, the spine's column."),
]
OfImmature = Annotated[
    Immature, typer.Option("--immature", help="Of rows whose label cannot be known yet.")
]
CompleteUntil = Annotated[
    str | None,
    typer.Option(
        "--complete-until",
        metavar="TIME",
        help="Up to when all events are there [default: the newest, less the lateness].",
    ),
]
SpineKeys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="COLUMN", help="Key of a spine that does not say it."),
]
DEFAULT_MAX_ROWS: Final = 50_000_000
