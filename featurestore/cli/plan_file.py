"""Plans in files: what was looked at is what is applied, or nothing is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from featurestore.errors import OutputError, RequestError
from featurestore.registry.plan import Plan

MAX_PLAN_BYTES: Final = 256 << 20


def save(made: Plan, file: Path) -> None:
    """Write a plan for `apply FILE`.

    Raises:
        OutputError: The file cannot be written.
    """
    try:
        file.write_text(f"{made.to_json()}\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{file} cannot be written: {error.strerror or error}.") from None


def refuse_if_outdated(made: Plan, file: Path) -> None:
    """Refuse to apply anything but what the file says.

    Raises:
        RequestError: The file is no plan, or the plan made now is another one.
    """
    saved, now = _saved_plan(file), json.loads(made.to_json())
    if saved == now:
        return
    differing = [_subject(change) for change in _only_in_one(saved["changes"], now["changes"])]
    what = f"it differs in {', '.join(differing[:5])}" if differing else _revisions(saved, now)
    raise RequestError(
        f"The plan in {file} is out of date: {what}; nothing was applied.",
        hint=f"look at what would change now: featurestore plan --out {file}",
    )


def _saved_plan(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_PLAN_BYTES:
            raise RequestError(f"{file} is larger than {MAX_PLAN_BYTES:,} bytes: it is no plan.")
        saved = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        saved = None
    changes = saved.get("changes") if isinstance(saved, dict) else None
    if not isinstance(changes, list) or not all(isinstance(c, dict) for c in changes):
        raise RequestError(f"{file} is no plan.", hint="make one with featurestore plan --out FILE")
    return dict(saved)


def _only_in_one(saved: list[Any], now: list[Any]) -> list[Mapping[str, Any]]:
    return [c for c in saved if c not in now] + [c for c in now if c not in saved]


def _subject(change: Mapping[str, Any]) -> str:
    return f"{change.get('kind')} {change.get('name')}"


def _revisions(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    revision = saved.get("base_revision")
    return f"it was made for revision {revision}, and the registry is at {now['base_revision']}"
