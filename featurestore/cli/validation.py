"""`validate`: do rows keep the rules of their sources and views?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featurestore.cli import exits
from featurestore.cli.completion import complete_contracts
from featurestore.cli.output import counted, listed, print_heading, print_table
from featurestore.cli.progress import progress
from featurestore.cli.session import Session, UsageError

if TYPE_CHECKING:
    from featurestore.contracts.report import Example, RuleResult, Validation, ValidationReport
    from featurestore.definitions.contract import Policy
    from featurestore.registry.validations import ValidationRecord


PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        metavar="warn|quarantine|fail",
        help="What every broken rule does [default: what it says itself].",
    ),
]
QuarantineDir = Annotated[
    Path | None,
    typer.Option(
        "--quarantine-dir",
        metavar="DIR",
        help="Where rows in quarantine are written [default: as configured].",
    ),
]


def validate(
    context: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME",
            help="Sources and views, or source/x, view/x [default: all that have a contract].",
            autocompletion=complete_contracts,
        ),
    ] = None,
    *,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="TIME", help="Rules about rows: events after this only."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--end", metavar="TIME", help="Events up to this RFC 3339 instant only."),
    ] = None,
    policy: PolicyOption = None,
    quarantine_dir: QuarantineDir = None,
    history: Annotated[
        bool, typer.Option("--history", help="List what earlier checks found; read no row.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, help="--history: at most so many.")] = 20,
) -> None:
    """Check rows against their contracts.

    Those of sources and of views, in one reading each. Every rule that does not hold is listed with
    the first rows that break it. The registry keeps the results.

    Ends with 1 if a rule whose policy is "fail" does not hold; warnings and rows in quarantine are
    no failure.
    """
    session = Session.of(context)
    if history:
        if (start, end, policy, quarantine_dir) != (None, None, None, None):
            raise UsageError("--history goes with names and --limit alone.")
        _show_history(session, names or [], limit)
        return
    with session.store() as store, progress(session, "rows") as report:
        result = store.validate(
            names or None,
            start=start,
            end=end,
            policy=_policy(policy),
            quarantine_dir=None if quarantine_dir is None else quarantine_dir.absolute(),
            progress=report,
        )
    if session.as_json:
        session.answer(result.to_document())
    else:
        _show(session, result)
    if not result.ok:
        raise typer.Exit(exits.ERROR)


def _policy(text: str | None) -> "Policy | None":
    from featurestore.definitions.contract import POLICIES

    for policy in POLICIES:
        if text == policy:
            return policy
    if text is not None:
        raise UsageError(f"--policy takes {', '.join(POLICIES)}, not {text[:40]!r}.")
    return None


def _show(session: Session, result: "ValidationReport") -> None:
    if not result.validations:
        session.note("No source and no view has a contract: there is nothing to check.")
        return
    headers = ("object", "rule", "policy", "rows", "failed", "share", "status")
    rows = (_row(each, rule) for each in result.validations for rule in each.rules)
    print_table(session.out, headers, rows)
    examples = [
        (each, rule, example)
        for each in result.validations
        for rule in each.rules
        for example in rule.examples
    ]
    if examples:
        print_heading(session.out, "rows that break a rule")
        shown = ("object", "rule", "file", "row", "values")
        print_table(session.out, shown, (_example_row(*example) for example in examples))
    for each in result.validations:
        if each.quarantine is not None:
            rows_text = counted(each.quarantined, "row")
            session.out.write(f"{each.name}: {rows_text} in {each.quarantine}\n")
    session.out.write(f"{_verdict(result)}\n")


def _row(each: "Validation", rule: "RuleResult") -> tuple[object, ...]:
    what = rule.found or share_text(rule.failed, rule.rows)
    return (_title(each), rule.rule, rule.policy, rule.rows, rule.failed, what, rule.status)


def _title(each: "Validation") -> str:
    return f"{each.kind.rpartition(' ')[2]}/{each.name}"


def share_text(part: int, whole: int) -> str:
    """Return a share that is nothing only if there is nothing: `0.0001 %`, `12.5 %`."""
    return f"{100 * part / whole:.4g} %" if part and whole else ""


def _example_row(each: "Validation", rule: "RuleResult", example: "Example") -> tuple[object, ...]:
    values = listed(
        f"{name}={'null' if value is None else value}" for name, value in example.values.items()
    )
    return (_title(each), rule.rule, example.file, example.row, values)


def _verdict(result: "ValidationReport") -> str:
    rules = [rule for each in result.validations for rule in each.rules]
    broken = [rule for rule in rules if rule.status != "passed"]
    if not broken:
        return f"{counted(len(rules), 'rule')} checked: all hold."
    failed = sum(rule.status == "failed" for rule in broken)
    end = f"{failed} of them by its policy a failure" if failed else "none of them a failure"
    return f"{counted(len(rules), 'rule')} checked: {len(broken)} broken, {end}."


def _show_history(session: Session, names: list[str], limit: int) -> None:
    with session.store() as store:
        wanted: list[str | None] = [*names] or [None]
        found = [each for name in wanted for each in store.validations(name, limit=limit)]
    if session.as_json:
        session.answer({"validations": [_record_document(record) for record in found]})
        return
    if not found:
        session.note("Nothing was checked yet.")
        return
    headers = ("at", "object", "by", "because of", "rows", "bad rows", "status", "broken rules")
    print_table(session.out, headers, map(_record_row, found))


def _record_row(record: "ValidationRecord") -> tuple[object, ...]:
    rules = record.document.get("rules", ())
    broken = listed(rule["rule"] for rule in rules if rule["status"] != "passed")
    title = f"{record.kind.rpartition(' ')[2]}/{record.name}"
    return (
        _at(record.at_us),
        title,
        record.actor,
        record.cause,
        record.rows,
        record.bad_rows,
        record.status,
        broken,
    )


def _record_document(record: "ValidationRecord") -> dict[str, Any]:
    return {
        "at": _at(record.at_us),
        "actor": record.actor,
        "cause": record.cause,
        "revision": record.revision,
        **record.document,
    }


def _at(micros: int) -> str:
    from featurestore.time import format_instant, from_micros

    return format_instant(from_micros(micros))


def last_validation(record: "ValidationRecord | None") -> dict[str, Any] | None:
    """Return what `describe` and `status` say of the last check, as JSON-ready data."""
    if record is None:
        return None
    return {
        "at": _at(record.at_us),
        "cause": record.cause,
        "status": record.status,
        "rows": record.rows,
        "bad_rows": record.bad_rows,
    }


def last_validation_text(record: "ValidationRecord | None") -> str | None:
    """Return the same in a line."""
    told = last_validation(record)
    if told is None:
        return None
    rows = f"{told['bad_rows']:,} bad of {counted(told['rows'], 'row')}"
    return f"{told['status']} at {told['at']}: {rows}, by {told['cause']}"
