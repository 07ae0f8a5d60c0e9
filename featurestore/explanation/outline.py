"""An explanation laid out for people, before it becomes text or HTML.

Names and values come from files and definitions of others: what is no plain character is escaped
here, and lengths are limited.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from featurestore.explanation.model import (
    ExplainedFeature,
    Explanation,
    OnlineRow,
    ViewExplanation,
    WindowExplanation,
)
from featurestore.explanation.rows import JoinedRow, PassedOver, Place, SourceRow, Values, time_text
from featurestore.explanation.words import counted, span_text

MAX_TEXT: Final = 300
MAX_CELL: Final = 30
MAX_VALUES: Final = 12
"""So many values of a row are shown."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a source under a heading.

    Attributes:
        heading: What they have in common.
        rows: Each as event time, created time, place, and values; empty texts where there is none.
        more: How many more there are.
    """

    heading: str
    rows: tuple[tuple[str, str, str, str], ...]
    more: int


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an explanation.

    Attributes:
        title: What it is about.
        facts: Label and text.
        tables: Rows of the source.
        level: 0 for what stands alone, 1 for what belongs to the part before it.
    """

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    tables: tuple[Rows, ...] = ()
    level: int = 0


def outline(explanation: Explanation) -> tuple[Part, ...]:
    """Return all that an explanation says, in the order in which it is read."""
    return tuple(_parts(explanation))


def _parts(explanation: Explanation) -> Iterator[Part]:
    for defect in explanation.defects:
        yield Part(
            "DEFECT: the explanation does not add up. Please report this.",
            (("what", _text(defect)),),
        )
    yield _heading(explanation)
    for feature in explanation.features:
        if feature.role is None:
            yield _computed(feature)
    for view in explanation.views:
        yield _view(view, explanation.at_us)
        for window in view.windows:
            yield _window(view, window)
        if view.windows and view.passed_over:
            yield Part(
                "not in any window", tables=tuple(map(_passed_over, view.passed_over)), level=1
            )
        if view.online is not None:
            yield _online(view, view.online)


def _heading(explanation: Explanation) -> Part:
    features = explanation.features
    facts = [] if len(features) == 1 else [(_name(f), f.value) for f in features]
    title = (
        f"{_name(features[0])} = {_text(features[0].value.text)}  ({features[0].value.dtype})"
        if len(features) == 1
        else counted(len(features), "feature")
    )
    about = [
        ("entity", _values(explanation.entity, most=MAX_TEXT) or "none: the same for everybody")
    ]
    if explanation.request:
        about.append(("request", _values(explanation.request, most=MAX_TEXT)))
    how = " (only what had been written by then)" if explanation.mode == "as_served" else ""
    about.append(("at", f"{time_text(explanation.at_us)}, mode {explanation.mode}{how}"))
    return Part(title, (*about, *((name, _cell(value.text, 60)) for name, value in facts)))


def _name(feature: ExplainedFeature) -> str:
    return _text(feature.name)


def _computed(feature: ExplainedFeature) -> Part:
    facts = [("computed", _text(feature.how or ""))]
    for given in feature.inputs:
        origin = "" if given.origin == given.name else f"  ({_text(given.origin)})"
        facts.append((_text(given.name), f"{_cell(given.value.text, 60)}{origin}"))
    if feature.online is not None:
        online = feature.online
        agrees = "the same" if online.agrees else "it differs"
        facts.append(("online", f"{_cell(online.value.text, 60)}  {online.status}, {agrees}"))
    return Part(f"{_name(feature)} = {_text(feature.value.text)}  (on demand)", tuple(facts))


def _view(view: ViewExplanation, at_us: int) -> Part:
    name = view.role if view.role == view.view else f"{view.role} (view {view.view})"
    facts = [
        ("why", _text(view.verdict)),
        (
            "source",
            f"{view.source}: {counted(view.files, 'file')}, {counted(view.source_rows, 'row')}",
        ),
    ]
    if any(key != column for key, column in view.key_columns.items()):
        facts.append(
            ("keys", ", ".join(f"{_text(k)} from {_text(c)}" for k, c in view.key_columns.items()))
        )
    facts += _chosen(view, at_us)
    if view.transform is not None:
        facts.append(("transform", _text(" ".join(view.transform.split()))))
    facts.append(("rule", view.rule))
    facts += [("note", note) for note in view.notes]
    tables = () if view.windows else tuple(map(_passed_over, view.passed_over))
    return Part(_text(name), tuple(facts), tables)


def _chosen(view: ViewExplanation, at_us: int) -> Iterator[tuple[str, str]]:
    """Yield what is known of the row that answers."""
    row = view.chosen
    if row is None:
        return
    yield "row", _place(row.place)
    if row.event_us is not None:
        age = at_us - row.event_us
        yield "event", f"{time_text(row.event_us)}{f', {span_text(age)} before' if age else ''}"
    if row.created_us is not None:
        yield "created", str(time_text(row.created_us))
    yield "values", _values(row.values, most=MAX_TEXT)
    if row.read:
        yield "read", _values(row.read, most=MAX_TEXT)
    for joined in row.joined:
        yield f"joined {_text(joined.name)}", _joined(joined)


def _joined(row: JoinedRow) -> str:
    if row.place is None:
        return f"no row of {row.source} goes with it"
    event = "" if row.event_us is None else f", event {time_text(row.event_us)}"
    return f"{_place(row.place)}{event}: {_values(row.values, most=MAX_TEXT)}"


def _window(view: ViewExplanation, window: WindowExplanation) -> Part:
    values = [f"{_text(name)} = {_cell(view.values[name].text, 60)}" for name in window.features]
    facts = [("window", window.interval)]
    if window.where is not None:
        facts.append(("where", _text(window.where)))
    for name, row in window.deciding.items():
        event = "" if row.event_us is None else f", {time_text(row.event_us)}"
        facts.append((_text(name), f"of {_place(row.place)}{event}"))
    what = "row" if window.column == "*" else f"row with a value of {_text(window.column)}"
    heading = f"{counted(window.count, 'row')}{what.removeprefix('row')} in it"
    rows = Rows(heading, tuple(map(_row, window.rows)), window.count - len(window.rows))
    tables = (rows, *map(_passed_over, window.passed_over))
    return Part(", ".join(values), tuple(facts), tables, level=1)


def _online(view: ViewExplanation, online: OnlineRow) -> Part:
    facts = [("agrees" if online.agrees else "differs", _text(online.why))]
    stored = {
        "none": "no row",
        "deleted": "a tombstone: the entity was deleted",
        "pushed": "a row that an application pushed",
        "row": "a row",
    }.get(online.state, online.state)
    if online.generation is not None:
        stored += f", generation {online.generation}"
    if online.schema_id is not None:
        stored += f", schema {online.schema_id}, {online.size:,} bytes"
    facts.append(("stored", stored))
    if online.event_us is not None:
        facts.append(("event", str(time_text(online.event_us))))
    if online.created_us is not None:
        facts.append(("created", str(time_text(online.created_us))))
    if online.stored:
        facts.append(("values", _values(online.stored, most=MAX_TEXT)))
    if online.generation is not None:
        until = time_text(online.materialized_until_us) or "never"
        facts.append(("materialized", f"until {until}" if online.materialized_until_us else until))
        facts.append(("request", f"{time_text(online.request_us)}"))
    for name, found in online.features.items():
        same = "the same" if found.agrees else f"training has {_cell(view.values[name].text, 40)}"
        facts.append((_text(name), f"{_cell(found.value.text, 40)}  {found.status}, {same}"))
    return Part("online", tuple(facts), level=1)


def _passed_over(found: PassedOver) -> Rows:
    heading = f"{counted(found.count, 'row')} passed over, {_text(found.why)}"
    # What the heading says of all rows need not stand at each.
    said = found.why.removeprefix("left out: ")
    rows = (_row(r if r.left_out != said else replace(r, left_out=None)) for r in found.rows)
    return Rows(heading, tuple(rows), found.count - len(found.rows))


def _row(row: SourceRow) -> tuple[str, str, str, str]:
    created = "" if row.created_us is None else f"created {time_text(row.created_us)}"
    told = [_values(row.values, most=MAX_CELL)] if row.values else []
    if row.read:
        read = _values(row.read, most=MAX_CELL)
        told.append(f"from {read}" if row.values else read)
    for joined in row.joined:
        place = "no row" if joined.place is None else _place(joined.place)
        told.append(f"joined {_text(joined.name)}: {place}")
    if row.left_out is not None:
        told.append(_text(row.left_out))
    return time_text(row.event_us) or "", created, _place(row.place), "; ".join(told)


def _place(place: Place) -> str:
    # A number to be typed again, hence without commas.
    return f"{_middle_cut(_text(place.file), 80)} row {place.row}"


def _values(values: Values, *, most: int) -> str:
    """Return values as `name=value`, so many at most."""
    shown = [
        f"{_text(name)}={_cell(v.text, most)}" for name, v in list(values.items())[:MAX_VALUES]
    ]
    rest = len(values) - len(shown)
    return ", ".join([*shown, f"{rest:,} more"] if rest else shown)


def _cell(text: str, most: int) -> str:
    """Return text of at most so many characters, escaped."""
    shown = _text(text)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def _middle_cut(text: str, most: int) -> str:
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def _text(text: str) -> str:
    """Return text on one line, with control characters escaped: it breaks no terminal."""
    shown = text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
