"""`verify --leakage` and `lint`: does a feature see what was not known yet?"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli import exits
from featurestore.cli.completion import complete_features
from featurestore.cli.features import feature_request
from featurestore.cli.output import counted, listed, one_line, print_heading, print_table
from featurestore.cli.progress import progress
from featurestore.cli.session import Session, UsageError
from featurestore.cli.training import TimeColumn, Zone

if TYPE_CHECKING:
    from featurestore.leakage.findings import Finding
    from featurestore.leakage.report import Leak, LeakageReport, Mutation
    from featurestore.registry.plan import Plan
    from featurestore.store import FeatureStore

OptionalFeatures = Annotated[
    list[str] | None,
    typer.Option(
        "--features",
        "-f",
        metavar="SERVICE|VIEW:FEATURE,...",
        help="A feature service, or features by name [default: all]; may be repeated.",
        autocompletion=complete_features,
    ),
]
LabelledSpine = Annotated[
    Path | None,
    typer.Option("--spine", metavar="FILE", help="Parquet file with keys, times and the label."),
]


def verify_leakage(
    session: Session,
    *,
    features: list[str] | None,
    spine: Path | None,
    arguments: Mapping[str, Any],
) -> None:
    """Run the leak test, show its report, and end with 1 unless it is as it should be."""
    with (
        session.store() as store,
        session.foreign_code(),
        progress(session, "steps") as report,
    ):
        result = store.verify_leakage(
            feature_request(features) if features else None,
            None if spine is None else spine.absolute(),
            change_directory=True,
            progress=report,
            **arguments,
        )
    if session.as_json:
        session.answer(_document(result))
    else:
        _show(session, result)
    if not result.ok:
        raise typer.Exit(exits.ERROR)


def _show(session: Session, report: "LeakageReport") -> None:
    kinds = sorted(report.mutations.items(), key=lambda item: (-item[1], item[0]))
    print_table(session.out, ("rows that must not matter", "mutated"), kinds)
    print_heading(session.out, "rows that matter")
    headers = ("view", "changed", "spine rows", "moved")
    rows = ((c.view, c.change, c.tried, c.moved) for c in report.controls)
    print_table(session.out, headers, rows)
    for leak in report.leaks:
        _show_leak(session, leak)
    for note in report.notes:
        session.note(one_line(note))
    session.out.write(f"\n{_verdict(report)}\n")


def _show_leak(session: Session, leak: "Leak") -> None:
    from featurestore.cli.output import print_facts

    print_heading(session.out, f"leak of {leak.feature}")
    print_facts(
        session.out,
        {
            "entity": _pairs(leak.entity),
            "at": leak.at or "no time",
            "value": _text(leak.before),
            "became": _text(leak.after),
        },
    )
    for mutation in leak.mutations:
        print_facts(session.out, _mutation_facts(mutation))


def _mutation_facts(mutation: "Mutation") -> dict[str, object]:
    where = f" row {mutation.row} of {mutation.file}" if mutation.file else ""
    return {
        "because": f"{mutation.kind}{where} ({mutation.why})",
        "  it was": _pairs(mutation.before),
        "  it is": _pairs(mutation.after),
        "  values": listed(mutation.values),
    }


def _pairs(values: Mapping[str, Any]) -> str:
    return listed(f"{name}={_text(value)}" for name, value in values.items())


def _text(value: object) -> str:
    from featurestore.cli.values import plain_json, text

    return text(plain_json(value))


def _verdict(report: "LeakageReport") -> str:
    if report.leaks:
        names = listed(leak.feature for leak in report.leaks)
        return f"{report.leaking:,} of {report.compared:,} values moved: {names} leak."
    if report.blind:
        pairs = listed(f"{c.view} ({c.change})" for c in report.blind)
        return f"Rows that matter were changed, and nothing moved: {pairs}."
    if not report.ok:
        return "Nothing was found, and nothing proves that a leak would have been: see above."
    seen = f"{report.moved:,} of {report.visible:,} changes of rows that matter moved one"
    return f"{report.compared:,} values compared: none moved; {seen}."


def _document(report: "LeakageReport") -> dict[str, Any]:
    return {
        "ok": report.ok,
        "verdict": _verdict(report),
        "mode": report.mode,
        "engine": report.engine,
        "seed": report.seed,
        "points": report.points,
        "rounds": report.rounds,
        "features": list(report.features),
        "values": report.compared,
        "moved": report.leaking,
        "mutations": dict(report.mutations),
        "leaks": [_leak_document(leak) for leak in report.leaks],
        "controls": [
            {"view": c.view, "changed": c.change, "tried": c.tried, "moved": c.moved}
            for c in report.controls
        ],
        "blind": [{"view": c.view, "changed": c.change} for c in report.blind],
        "notes": list(report.notes),
    }


def _leak_document(leak: "Leak") -> dict[str, Any]:
    from featurestore.cli.values import plain_json

    return {
        "feature": leak.feature,
        "entity": _plain(leak.entity),
        "at": leak.at,
        "before": plain_json(leak.before),
        "after": plain_json(leak.after),
        "mutations": [
            {
                "kind": m.kind,
                "why": m.why,
                "source": m.source,
                "file": m.file,
                "row": m.row,
                "before": _plain(m.before),
                "after": _plain(m.after),
                "values": list(m.values),
            }
            for m in leak.mutations
        ],
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    from featurestore.cli.values import plain_json

    return {name: plain_json(value) for name, value in values.items()}


def lint(
    context: typer.Context,
    *,
    spine: LabelledSpine = None,
    label: Annotated[
        str | None,
        typer.Option(
            "--label", metavar="COLUMN", help="The label in --spine [default: those marked]."
        ),
    ] = None,
    features: OptionalFeatures = None,
    timestamp_field: TimeColumn = "event_timestamp",
    timezone: Zone = "UTC",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Chooses the rows looked at.")] = 0,
) -> None:
    """Look for what leaks by construction.

    Rows stamped with the start of what they summarize, labels among features, rows written before
    their event, lookup tables that change, and the like.

    Ends with 1 if there is an error among the findings.
    """
    session = Session.of(context)
    if label is not None and spine is None:
        raise UsageError("--label names a column of --spine: give both.")
    with session.store() as store, session.foreign_code():
        findings = store.lint(
            spine,
            label=label,
            features=feature_request(features) if features else None,
            timestamp_field=timestamp_field,
            timezone=timezone,
            seed=seed,
        )
    errors = sum(finding.severity == "error" for finding in findings)
    if session.as_json:
        documents = [_finding_document(finding) for finding in findings]
        session.answer({"ok": not errors, "errors": errors, "findings": documents})
    else:
        _show_findings(session, findings)
    if errors:
        raise typer.Exit(exits.ERROR)


def _show_findings(session: Session, findings: "Iterable[Finding]") -> None:
    findings = list(findings)
    for finding in findings:
        heading = f"{finding.severity}: {finding.object}: {finding.rule}"
        print_heading(session.out, heading, apart=finding is not findings[0])
        session.out.write(f"{one_line(finding.message)}\n-> {one_line(finding.advice)}\n")
    counts = [(s, sum(f.severity == s for f in findings)) for s in ("error", "warning", "info")]
    said = listed(counted(n, s) if s != "info" else f"{n:,} to look at" for s, n in counts if n)
    session.out.write(f"{chr(10) if findings else ''}{said or 'Nothing was found.'}\n")


def _finding_document(finding: "Finding") -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "object": finding.object,
        "message": finding.message,
        "evidence": dict(finding.evidence),
        "advice": finding.advice,
    }


def note_findings(session: Session, store: "FeatureStore", plan: "Plan") -> None:
    """Tell what definitions that are planned leak by construction, as far as that costs nothing."""
    from featurestore.leakage.lint import plan_findings

    found = plan_findings(plan.target_views, functions=store.functions, root=store.config.root)
    for finding in found:
        session.note(
            one_line(f"{finding.severity}: {finding.object}: {finding.rule}: {finding.message}")
        )
