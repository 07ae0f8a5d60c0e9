"""`spine events`, `spine grid`, `spine label`: whose features, as of when, and what came after."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli.completion import complete_event_sources
from featurestore.cli.output import counted, listed, print_facts, print_table
from featurestore.cli.progress import progress
from featurestore.cli.session import Session, UsageError
from featurestore.cli.spine_options import (
    DEFAULT_MAX_ROWS,
    AfterOf,
    AsOf,
    By,
    CompleteUntil,
    Conflicts,
    Deduplicate,
    Empty,
    Fraction,
    Function,
    FunctionColumn,
    Immature,
    JoinKeys,
    Keep,
    Keys,
    LabelName,
    Limit,
    MaxRows,
    Of,
    OfImmature,
    OnConflict,
    Output,
    Sample,
    Seed,
    SpineFile,
    SpineKeys,
    Where,
    Window,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from featurestore.spines import Spine


def events(
    context: typer.Context,
    of: Of,
    *,
    key: Keys = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="COLUMN", help="Carry it along; may be repeated."),
    ] = None,
    label_column: Annotated[
        list[str] | None,
        typer.Option(
            "--label-column", metavar="COLUMN", help="Carry it along as a label; may be repeated."
        ),
    ] = None,
    start: Annotated[
        str | None, typer.Option("--start", metavar="TIME", help="Only events after this.")
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", metavar="TIME", help="Only events until this.")
    ] = None,
    offset: Annotated[
        str | None,
        typer.Option("--offset", metavar="DURATION", help="Ask so long after, as in 30m, or -1h."),
    ] = None,
    sample: Sample = None,
    fraction: Fraction = None,
    seed: Seed = 0,
    by: By = None,
    deduplicate: Deduplicate = None,
    conflicts: OnConflict = Conflicts.RAISE,
    max_rows: MaxRows = DEFAULT_MAX_ROWS,
    output: Output = None,
    limit: Limit = 20,
) -> None:
    """Make a spine of a view's or a source's own events.

    A row for each event in (start, end], in the order of their times.
    """
    session = Session.of(context)
    _check_sample(sample, fraction)
    with session.store() as store, progress(session, "rows") as report:
        spine = store.spines.from_events(
            of,
            keys=key or None,
            columns=column or (),
            labels=label_column or (),
            start=start,
            end=end,
            offset=offset,
            max_rows=max_rows,
            progress=report,
        )
        spine = _fewer(spine, deduplicate, conflicts, sample, fraction, seed, by)
        _answer(session, spine, output, limit)


def grid(
    context: typer.Context,
    of: Annotated[
        str | None,
        typer.Argument(
            metavar="VIEW|SOURCE",
            help="Whose keys are the entities, each from its first event on.",
            autocompletion=complete_event_sources,
        ),
    ] = None,
    *,
    start: Annotated[str, typer.Option("--start", metavar="TIME", help="The first moment.")],
    end: Annotated[str, typer.Option("--end", metavar="TIME", help="The last possible one.")],
    every: Annotated[
        str, typer.Option("--every", metavar="DURATION", help="Distance: 15m, 1h, 1d, 7d, 1mo.")
    ],
    timezone: Annotated[
        str,
        typer.Option("--timezone", metavar="ZONE", help="Whose days and local times these are."),
    ] = "UTC",
    key: Keys = None,
    entities: Annotated[
        Path | None,
        typer.Option("--entities", metavar="FILE", help="Or a Parquet file with the entities."),
    ] = None,
    before_first_event: Annotated[
        bool, typer.Option("--before-first-event", help="Entities are there before it, too.")
    ] = False,
    sample: Sample = None,
    fraction: Fraction = None,
    seed: Seed = 0,
    by: By = None,
    max_rows: MaxRows = DEFAULT_MAX_ROWS,
    output: Output = None,
    limit: Limit = 20,
) -> None:
    """Make a spine of every entity at moments of even distance.

    Both ends are included. Days and months are those of the zone's calendar.
    """
    session = Session.of(context)
    _check_sample(sample, fraction)
    with session.store() as store, progress(session, "rows") as report:
        spine = store.spines.from_grid(
            of,
            start=start,
            end=end,
            every=every,
            timezone=timezone,
            keys=key or None,
            entities=entities,
            before_first_event=before_first_event,
            max_rows=max_rows,
            progress=report,
        )
        spine = _fewer(spine, None, Conflicts.RAISE, sample, fraction, seed, by)
        _answer(session, spine, output, limit)


def label(
    context: typer.Context,
    spine_file: SpineFile,
    name: LabelName,
    *,
    window: Window,
    of: AfterOf = None,
    as_of: AsOf = None,
    aggregation: Function = "count",
    column: FunctionColumn = "*",
    where: Where = None,
    empty: Empty = None,
    join_key: JoinKeys = None,
    immature: OfImmature = Immature.NULL,
    complete_until: CompleteUntil = None,
    key: SpineKeys = None,
    sample: Sample = None,
    fraction: Fraction = None,
    seed: Seed = 0,
    by: By = None,
    deduplicate: Deduplicate = None,
    conflicts: OnConflict = Conflicts.RAISE,
    output: Output = None,
    limit: Limit = 20,
) -> None:
    """Add a label to a spine: what happened after each row's time q, in (q, q + window].

    It is null, and never a number, where q + window is beyond what is known of the events.
    """
    session = Session.of(context)
    _check_sample(sample, fraction)
    if (of is None) == (as_of is None):
        raise UsageError("A label is either --of VIEW|SOURCE or --as-of VIEW:FEATURE.")
    shared: dict[str, Any] = {
        "join_key_map": dict(map(_pair, join_key or ())),
        "immature": immature.value,
        "complete_until": complete_until,
    }
    with session.store() as store, progress(session, "rows") as report:
        spine = store.spines.from_table(spine_file, keys=key or None)
        if of is not None:
            spine = spine.label(
                name,
                of,
                window=window,
                aggregation=aggregation,
                column=column,
                where=where,
                empty=int(empty) if empty is not None and empty.is_integer() else empty,
                progress=report,
                **shared,
            )
        elif as_of is not None:
            spine = spine.label_as_of(name, as_of, after=window, progress=report, **shared)
        spine = _fewer(spine, deduplicate, conflicts, sample, fraction, seed, by)
        _answer(session, spine, output, limit)


def _pair(text: str) -> tuple[str, str]:
    key, equals, column = text.partition("=")
    if not equals or not key or not column:
        raise UsageError(f"--join-key {text!r}: write KEY=COLUMN.")
    return key, column


def _check_sample(sample: int | None, fraction: float | None) -> None:
    if sample is not None and fraction is not None:
        raise UsageError("A sample is either --sample N or --fraction F.")


def _fewer(  # noqa: PLR0917 - the options of every command here, in their order
    spine: "Spine",
    deduplicate: Keep | None,
    conflicts: Conflicts,
    sample: int | None,
    fraction: float | None,
    seed: int,
    by: list[str] | None,
) -> "Spine":
    """Deduplicate, then sample, if that is asked for."""
    if deduplicate is not None:
        spine = spine.deduplicate(keep=deduplicate.value, conflicts=conflicts.value)
    if sample is not None or fraction is not None:
        spine = spine.sample(sample, fraction=fraction, seed=seed, by=by or ())
    return spine


def _answer(session: Session, spine: "Spine", output: Path | None, limit: int) -> None:
    from featurestore.cli.values import json_column, text

    if output is not None:
        spine.write_parquet(output)
    head = spine.table.slice(0, 0 if output is not None else limit)
    if session.as_json:
        rows = zip(*map(json_column, head.columns), strict=True)
        found = [dict(zip(head.column_names, row, strict=True)) for row in rows]
        shown = {"rows": found} if output is None else {"output": str(output)}
        session.answer({"num_rows": spine.num_rows, "origin": spine.origin, **shown})
        return
    if output is None:
        columns = [map(text, json_column(column)) for column in head.columns]
        print_table(session.out, head.column_names, zip(*columns, strict=True))
        session.out.write("\n")
    print_facts(session.out, _facts(spine) | {"written to": output})


def _facts(spine: "Spine") -> dict[str, object]:
    from featurestore.cli.values import json_column, text

    facts: dict[str, object] = {
        "rows": spine.num_rows,
        "keys": listed(spine.keys),
        "labels": listed(spine.labels) or None,
    }
    times = spine.table[spine.timestamp_field]
    if times.null_count < len(times):
        ends = _ends(times)
        facts["times"] = " to ".join(map(text, json_column(ends)))
    for step in spine.steps:
        facts |= _step_facts(step)
    return facts


def _ends(times: Any) -> Any:
    """Return the first and the last of some times."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ends = pc.min_max(times)
    return pa.chunked_array([pa.array([ends["min"].as_py(), ends["max"].as_py()], times.type)])


def _step_facts(step: "Mapping[str, Any]") -> dict[str, object]:
    """Return what is to be said of a step."""
    kind = step.get("step")
    if kind == "events":
        return {"events": f"{step.get('of')}, of {_count(step, 'source_rows'):,} rows"}
    if kind == "grid":
        return {"entities": _count(step, "entities")}
    if kind == "deduplicate":
        conflicts = counted(_count(step, "conflicting"), "conflicting moment")
        return {"duplicates dropped": f"{_count(step, 'dropped'):,}, {conflicts}"}
    if kind == "sample":
        return {"sample": f"of {_count(step, 'rows_before'):,} rows, seed {step.get('seed')}"}
    if kind != "label":
        return {}
    parts = [f"{_count(step, 'mature'):,} known"]
    if early := _count(step, "immature"):
        parts.append(f"{early:,} not yet ({step.get('immature_rows')})")
    if nobody := _count(step, "without_key_or_time"):
        parts.append(f"{nobody:,} without key or time")
    parts.append(f"complete until {step.get('complete_until') or 'never'}")
    return {f"label {step.get('name')}": listed(parts)}


def _count(step: "Mapping[str, Any]", name: str) -> int:
    """Return a count of a step, which may come from a file that says anything."""
    found = step.get(name)
    return found if isinstance(found, int) else 0
