"""`dataset create`, `list`, `describe`, `verify`, `rebuild`, `tidy`: kept training sets."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli import exits
from featurestore.cli.completion import complete_datasets
from featurestore.cli.features import feature_request
from featurestore.cli.materialization import Validate, wanted_check
from featurestore.cli.output import counted, listed, print_facts, print_heading, print_table
from featurestore.cli.profiles import Charts, Svg, print_profile, write_svg
from featurestore.cli.progress import progress
from featurestore.cli.session import Session, UsageError
from featurestore.cli.training import (
    Features,
    FullNames,
    KnownBy,
    Mode,
    Query,
    Spine,
    TimeColumn,
    Zone,
    spine_of,
)
from featurestore.errors import RequestError

if TYPE_CHECKING:
    from featurestore.datasets.changes import Change
    from featurestore.datasets.dataset import Dataset
    from featurestore.datasets.differences import ColumnDifference
    from featurestore.datasets.manifest import Manifest
    from featurestore.datasets.rebuild import Rebuild
    from featurestore.datasets.verification import DatasetVerification
    from featurestore.registry.datasets import DatasetRecord

Name = Annotated[str, typer.Argument(help="The dataset's name.", autocompletion=complete_datasets)]
Version = Annotated[
    int | None, typer.Option("--version", min=1, help="Its version [default: the newest].")
]


def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The dataset's name.")],
    *,
    features: Features,
    spine: Spine = None,
    sql: Query = None,
    mode: KnownBy = Mode.COMPLETE,
    timestamp_field: TimeColumn = "event_timestamp",
    timezone: Zone = "UTC",
    full_feature_names: FullNames = False,
    description: Annotated[str, typer.Option("--description", help="For people.")] = "",
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY=VALUE", help="A label; may be repeated."),
    ] = None,
    validate: Validate = None,
) -> None:
    """Keep a training set as a dataset's next version.

    It never changes. It has exactly the rows of --spine (or --sql), in their order, and a manifest
    that says what it was made from.
    """
    session = Session.of(context)
    tags = dict(map(_tag, tag or ()))
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
        made = store.create_dataset(
            name, job, description=description, tags=tags, validate=wanted_check(validate)
        )
    if session.as_json:
        session.answer({**_record_document(made.record), "path": str(made.path)})
    else:
        session.out.write(
            f"{made.name}, version {made.version}: {counted(made.num_rows, 'row')},"
            f" {counted(len(made.files), 'file')}, digest {made.digest}\n{made.path}\n"
        )


def _tag(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--tag {text!r} is not KEY=VALUE.")
    return key, value


def list_datasets(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(help="Only this dataset's versions.", autocompletion=complete_datasets),
    ] = None,
) -> None:
    """Show the datasets, with their versions."""
    session = Session.of(context)
    with session.store() as store:
        records = store.list_datasets(name)
    if session.as_json:
        session.answer({"datasets": [_record_document(record) for record in records]})
    elif not records:
        session.out.write("There are no datasets.\n")
    else:
        headers = ("name", "version", "rows", "bytes", "revision", "created", "by", "digest")
        print_table(session.out, headers, map(_record_row, records))


def describe(
    context: typer.Context,
    name: Name,
    *,
    version: Version = None,
    stats: Annotated[
        bool, typer.Option("--stats", help="Show the statistics of its columns instead.")
    ] = False,
    charts: Charts = False,
    svg: Svg = None,
) -> None:
    """Show what a dataset holds, and what it was made from; or its columns' statistics."""
    session = Session.of(context)
    with session.store() as store:
        dataset = store.get_dataset(name, version)
    if stats or charts or svg is not None:
        _show_statistics(session, dataset, charts=charts, svg=svg)
    elif session.as_json:
        session.answer({"path": str(dataset.path), "manifest": dataset.manifest})
    else:
        _describe(session, dataset)


def _show_statistics(
    session: Session, dataset: "Dataset", *, charts: bool, svg: Path | None
) -> None:
    profile, what = dataset.profile, f"{dataset.name}, version {dataset.version}"
    if profile is None:
        raise RequestError(f"{what} was made without statistics.")
    if svg is not None:
        write_svg(profile, svg)
    if session.as_json:
        session.answer({"name": dataset.name, "profile": profile.to_document()})
        return
    print_heading(session.out, f"statistics of {what}", apart=False)
    print_profile(session, profile, charts=charts)


def verify(
    context: typer.Context,
    name: Name,
    *,
    version: Version = None,
    content: Annotated[
        bool, typer.Option("--content", help="Compute the digest of the values, too.")
    ] = False,
) -> None:
    """Prove that a dataset's files are unchanged.

    All files are read and compared with the manifest, and the manifest with the registry. Ends with
    1 if anything is wrong.
    """
    session = Session.of(context)
    with session.store() as store, progress(session, "bytes") as report:
        found = store.verify_dataset(name, version, content=content, progress=report)
    if session.as_json:
        session.answer(_verification_document(found))
    else:
        if found.faults:
            rows = ((fault.file or "(the dataset)", fault.what) for fault in found.faults)
            print_table(session.out, ("file", "what is wrong"), rows)
        session.out.write(f"{_verdict(found)}\n")
    if not found.ok:
        raise typer.Exit(exits.ERROR)


def rebuild(
    context: typer.Context,
    name: Name,
    *,
    version: Version = None,
    current: Annotated[
        bool,
        typer.Option("--current", help="Use today's definitions and all files of today."),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the result as the dataset's next version.")
    ] = False,
) -> None:
    """Compute a dataset anew, and compare.

    With the definitions and the source files that its manifest lists, whatever was applied or added
    since. Ends with 1 if the result differs.
    """
    session = Session.of(context)
    with (
        session.store() as store,
        session.foreign_code(),
        progress(session, "rows") as report,
    ):
        dataset = store.get_dataset(name, version)
        found = dataset.rebuild(current=current, keep=keep, progress=report)
    if session.as_json:
        session.answer(_rebuild_document(found))
    else:
        _show_rebuild(session, found)
    if not found.same:
        raise typer.Exit(exits.ERROR)


def tidy(context: typer.Context) -> None:
    """Tidy up after builds that were killed.

    What they left is removed; a dataset that lacks only the registry's last word is completed.
    `dataset create` does it for its dataset, too. What is being built is left alone.
    """
    session = Session.of(context)
    with session.store() as store:
        done = store.tidy_datasets()
    if session.as_json:
        session.answer({"done": done})
    else:
        session.out.writelines(f"{line}\n" for line in done or ["There was nothing to tidy up."])


def _record_row(record: "DatasetRecord") -> tuple[object, ...]:
    return (
        record.name,
        record.version,
        record.rows,
        record.size,
        record.revision,
        _instant(record.created_us),
        record.created_by,
        record.digest[:16],
    )


def _record_document(record: "DatasetRecord") -> dict[str, Any]:
    return {
        "name": record.name,
        "version": record.version,
        "rows": record.rows,
        "size": record.size,
        "revision": record.revision,
        "created": _instant(record.created_us),
        "created_by": record.created_by,
        "digest": record.digest,
        "manifest_sha256": record.manifest_hash,
    }


def _instant(micros: int) -> str:
    from featurestore.time import format_instant, from_micros

    return format_instant(from_micros(micros))


def _describe(session: Session, dataset: "Dataset") -> None:
    facts = dataset.facts
    print_facts(session.out, _facts(dataset, facts))
    print_heading(session.out, "columns")
    is_spine = [True] * facts.spine.columns + [False] * len(facts.feature_names)
    rows = (
        (column.name, column.type, "spine" if spine else "feature", column.digest[:16])
        for column, spine in zip(facts.columns, is_spine, strict=True)
    )
    print_table(session.out, ("column", "type", "part", "digest"), rows)
    if facts.validation is not None:
        print_heading(session.out, "contracts")
        rules = (
            (f"{each['kind']} {each['name']}", r["rule"], r["status"], r["rows"], r["failed"])
            for each in facts.validation
            for r in each["rules"]
        )
        print_table(session.out, ("of", "rule", "status", "rows", "broken by"), rules)
    print_heading(session.out, "definitions")
    definitions = ((d.kind, d.name, d.hash) for d in facts.definitions)
    print_table(session.out, ("kind", "name", "hash"), definitions)
    print_heading(session.out, "source files")
    files = ((s.name, f.path, f.size, f.sha256[:16]) for s in facts.sources for f in s.files)
    print_table(session.out, ("source", "file", "bytes", "SHA-256"), files)


def _facts(dataset: "Dataset", facts: "Manifest") -> dict[str, object]:
    tags = (f"{key}={value}" for key, value in facts.tags.items())
    request = facts.request
    views = dict.fromkeys(str(s.get("alias") or s["view"]) for s in request.selections)
    software = (f"{package} {version}" for package, version in facts.software.items())
    return {
        "dataset": f"{facts.name}, version {facts.version}",
        "description": facts.description,
        "tags": listed(tags),
        "folder": dataset.path,
        "digest": facts.digest,
        "rows": facts.rows,
        "bytes": f"{facts.size:,} in {counted(len(facts.files), 'file')}",
        "created": f"{facts.created_at} by {facts.created_by}, at revision {facts.revision}",
        "service": request.service,
        "views": listed(views),
        "spine": _origin(facts.spine.origin),
        "labels": listed(_parts(facts.spine.origin, "labels")),
        "mode": request.mode,
        "time column": f"{request.timestamp_field} (naive times: {request.timezone})",
        "engine": facts.engine.name,
        "software": listed(software),
        "machine": listed(facts.platform.values()),
    }


def _origin(origin: dict[str, Any]) -> str:
    kind = origin.get("kind", "")
    detail = origin.get("sql") or origin.get("path") or origin.get("type") or origin.get("name")
    made = origin.get("made")
    told = _parts(made, "steps") if isinstance(made, dict) else []
    steps = [str(step.get("step")) for step in told if isinstance(step, dict)]
    how = f", made by {listed(steps)}" if steps else ""
    return f"{kind}: {detail}{how}" if detail else f"{kind}{how}"


def _parts(origin: dict[str, Any], name: str) -> list[Any]:
    """Return a list of an origin, in which a manifest may have anything."""
    found = origin.get(name)
    return found if isinstance(found, list) else []


def _verdict(found: "DatasetVerification") -> str:
    what = f"{found.name}, version {found.version}"
    if found.faults:
        return f"{what}: {counted(len(found.faults), 'fault')}."
    also = " and the digest of its values" if found.content else ""
    return (
        f"{what}: {counted(found.files, 'file')}, {found.size:,} bytes of data{also}: all is as it"
        " was written."
    )


def _verification_document(found: "DatasetVerification") -> dict[str, Any]:
    return {
        "ok": found.ok,
        "name": found.name,
        "version": found.version,
        "files": found.files,
        "size": found.size,
        "content": found.content,
        "verdict": _verdict(found),
        "faults": [{"file": fault.file, "what": fault.what} for fault in found.faults],
    }


def _show_rebuild(session: Session, found: "Rebuild") -> None:
    verdict = "the same" if found.same else "NOT the same"
    session.out.write(f"{found.name}, version {found.version}, computed anew: {verdict}.\n")
    print_facts(session.out, {"digest": found.digest, "computed": found.found})
    if found.kept is not None:
        session.out.write(f"Kept as version {found.kept}.\n")
    for heading, matters in (("changed since", True), ("changed since, and not used", False)):
        changes = [change for change in found.changes if change.matters is matters]
        if changes:
            print_heading(session.out, heading)
            print_table(session.out, ("what", "name", "how"), map(_change_row, changes))
    if found.differences:
        print_heading(session.out, "columns that differ")
        rows = (row for difference in found.differences for row in _difference_rows(difference))
        print_table(session.out, ("column", "rows", "first in row", "was", "is"), rows)


def _change_row(change: "Change") -> tuple[object, ...]:
    return (change.kind, change.name, str(change).removeprefix(f"{change.kind} {change.name}: "))


def _difference_rows(difference: "ColumnDifference") -> list[tuple[object, ...]]:
    from featurestore.cli.values import plain_json, text

    if difference.rows is None:
        return [(difference.column, None, None, difference.what, None)]
    return [
        (
            difference.column if number == 0 else None,
            difference.rows if number == 0 else None,
            example.row,
            text(plain_json(example.before)),
            text(plain_json(example.after)),
        )
        for number, example in enumerate(difference.examples)
    ]


def _rebuild_document(found: "Rebuild") -> dict[str, Any]:
    return {
        "same": found.same,
        "name": found.name,
        "version": found.version,
        "rows": found.rows,
        "digest": found.digest,
        "computed": found.found,
        "kept_as": found.kept,
        "changes": [_change_document(change) for change in found.changes],
        "differences": [_difference_document(each) for each in found.differences],
    }


def _change_document(change: "Change") -> dict[str, Any]:
    return {
        "kind": change.kind,
        "name": change.name,
        "what": change.what,
        "before": change.before,
        "after": change.after,
        "details": list(change.details),
        "matters": change.matters,
    }


def _difference_document(difference: "ColumnDifference") -> dict[str, Any]:
    from featurestore.cli.values import plain_json

    return {
        "column": difference.column,
        "what": difference.what,
        "rows": difference.rows,
        "examples": [
            {
                "row": example.row,
                "before": plain_json(example.before),
                "after": plain_json(example.after),
            }
            for example in difference.examples
        ],
    }
