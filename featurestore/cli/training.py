"""`get-historical`: a training set, point-in-time correct, from the command line."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featurestore.cli.completion import complete_features
from featurestore.cli.features import feature_request
from featurestore.cli.output import counted, print_table
from featurestore.cli.profiles import Charts, Svg, print_profile, write_svg
from featurestore.cli.progress import progress
from featurestore.cli.session import Session, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

    from featurestore.statistics import Profile
    from featurestore.training.job import RetrievalJob


class Mode(StrEnum):
    """What is taken to have been known at a spine row's time; see `FeatureStore`."""

    COMPLETE = "complete"
    AS_SERVED = "as_served"


Features = Annotated[
    list[str],
    typer.Option(
        "--features",
        "-f",
        metavar="SERVICE|VIEW:FEATURE,...",
        help="A feature service, or features by name; may be repeated.",
        autocompletion=complete_features,
    ),
]
Spine = Annotated[
    Path | None,
    typer.Option("--spine", metavar="FILE", help="Parquet file with the keys and times."),
]
Query = Annotated[
    str | None,
    typer.Option("--sql", metavar="QUERY", help="Or a SELECT over the registered sources."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the result to a Parquet file."),
]
KnownBy = Annotated[
    Mode,
    typer.Option("--mode", help="as_served: only rows that were written by the spine's time."),
]
TimeColumn = Annotated[
    str, typer.Option("--timestamp-field", metavar="COLUMN", help="The spine's time.")
]
Zone = Annotated[
    str, typer.Option("--timezone", metavar="ZONE", help="Zone of the spine's naive times.")
]
FullNames = Annotated[
    bool, typer.Option("--full-feature-names", help="Name columns view__feature.")
]
Limit = Annotated[int, typer.Option("--limit", "-n", min=0, help="Rows to print without --output.")]
WithProfile = Annotated[
    bool,
    typer.Option(
        "--profile",
        help="Statistics of the whole result, and how much of the spine each view covers.",
    ),
]
Explain = Annotated[
    bool, typer.Option("--explain", help="Show how it would be computed; compute nothing.")
]


def get_historical(
    context: typer.Context,
    *,
    features: Features,
    spine: Spine = None,
    sql: Query = None,
    output: Output = None,
    mode: KnownBy = Mode.COMPLETE,
    timestamp_field: TimeColumn = "event_timestamp",
    timezone: Zone = "UTC",
    full_feature_names: FullNames = False,
    limit: Limit = 20,
    explain: Explain = False,
    profile: WithProfile = False,
    svg: Svg = None,
    charts: Charts = False,
) -> None:
    """Build a point-in-time correct training set.

    The result has exactly the rows of --spine (or --sql), in their order. It is written to
    --output; without that, its first rows are printed, or with --profile its statistics.
    """
    session = Session.of(context)
    if not profile and (svg is not None or charts):
        raise UsageError("--svg and --charts draw --profile.")
    with (
        session.store() as store,
        session.foreign_code(),
        progress(session, "rows") as report,
    ):
        job = store.get_historical_features(
            spine_of(spine, sql),
            feature_request(features),
            full_feature_names=full_feature_names,
            timestamp_field=timestamp_field,
            timezone=timezone,
            mode=mode.value,
            progress=report,
        )
        if explain:
            _explain(session, job)
            return
        found = _profile(job, output) if profile else None
        head = None if profile else _compute(job, output, limit)
    if found is not None:
        _show_profile(session, job, found, output, svg=svg, charts=charts)
    else:
        _show(session, job, head, output)


def _profile(job: "RetrievalJob", output: Path | None) -> "Profile":
    """Return the whole result's statistics; it is written meanwhile, if it is to be."""
    if output is None:
        return job.profile(coverage=True)
    profiler = job.profiler(coverage=True)
    job.write_parquet(output, profiler=profiler)
    return profiler.finish()


def _show_profile(
    session: Session,
    job: "RetrievalJob",
    profile: "Profile",
    output: Path | None,
    *,
    svg: Path | None,
    charts: bool,
) -> None:
    if svg is not None:
        write_svg(profile, svg)
    if session.as_json:
        document = _document(job, None, output)
        session.answer({**document, "profile": profile.to_document()})
        return
    if output is not None:
        _show(session, job, None, output)
    print_profile(session, profile, charts=charts)


def spine_of(file: Path | None, query: str | None) -> object:
    """Return the spine that one of two options gives; raises UsageError unless one does."""
    from featurestore.training.spine import sql

    if file is not None and query is None:
        return file
    if query is not None and file is None:
        return sql(query)
    raise UsageError("The spine is either --spine FILE or --sql QUERY.")


def _compute(job: "RetrievalJob", output: Path | None, limit: int) -> "pa.Table | None":
    """Write the whole result, or return its first rows."""
    if output is None:
        return job.preview(limit)
    job.write_parquet(output)
    return None


def _explain(session: Session, job: "RetrievalJob") -> None:
    explained = job.explain()
    if session.as_json:
        session.answer({"num_rows": job.num_rows, "explain": explained})
    else:
        session.out.write(f"{explained}\n")


def _show(
    session: Session, job: "RetrievalJob", head: "pa.Table | None", output: Path | None
) -> None:
    from featurestore.cli.values import json_column, text

    if session.as_json:
        session.answer(_document(job, head, output))
    elif head is None:
        features = len(job.feature_names)
        session.out.write(
            f"{output}: {counted(job.num_rows, 'row')}, {counted(features, 'feature')}\n"
        )
    else:
        columns = [map(text, json_column(column)) for column in head.columns]
        print_table(session.out, head.column_names, zip(*columns, strict=True))
        if head.num_rows < job.num_rows:
            session.note(f"{head.num_rows:,} of {job.num_rows:,} rows; --output FILE writes all.")


def _document(
    job: "RetrievalJob", head: "pa.Table | None", output: Path | None
) -> dict[str, object]:
    from featurestore.cli.values import json_column
    from featurestore.types import type_name

    document: dict[str, object] = {
        "num_rows": job.num_rows,
        "columns": [{"name": f.name, "type": type_name(f.type)} for f in job.schema],
    }
    if head is None:
        return {**document, "output": None if output is None else str(output)}
    rows = zip(*map(json_column, head.columns), strict=True)
    names = head.column_names
    return {**document, "rows": [dict(zip(names, row, strict=True)) for row in rows]}
