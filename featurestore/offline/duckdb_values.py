"""SQL that reads columns as DuckDB finds them as instants, keys and features, as pure text."""

from collections.abc import Callable, Collection, Iterable, Sequence

import pyarrow as pa

from featurestore.offline.duckdb_text import sql_type
from featurestore.offline.row_spans import margin_us
from featurestore.offline.scan_columns import is_nanoseconds
from featurestore.time import LocalSpan
from featurestore.types import base_type

LAST = 2**63 - 1
_FAR = 2**62


def instant(raw: str, found: pa.DataType, spans: Sequence[LocalSpan], *, up: bool) -> str:
    """Return a time column as microseconds of UTC, rounded up or down from nanoseconds.

    DuckDB reads the last number of a unit as infinity, and its opposite as minus infinity, of which
    it says no number. pandas writes `Timestamp.max`, a usual "for ever", as just that number.
    """
    if pa.types.is_null(found):
        return "NULL::BIGINT"
    first, last, read = -LAST, LAST, ""
    if is_nanoseconds(found):
        n = f"epoch_ns({raw})"
        read = f"({n} // 1000 - ({n} % 1000 < 0)::BIGINT)"
        micros = f"({n} // 1000 + ({n} % 1000 > 0)::BIGINT)" if up else read
        first, last = first // 1000 + up, last // 1000 + up
    elif pa.types.is_date(found):
        micros = f"epoch_us({raw}::TIMESTAMP)"
    else:
        micros = f"epoch_us({raw})"
    # A local time is read as it stands and rounded afterwards, never across a change of the clocks.
    local = from_local(micros, spans, read or micros) if spans else micros
    infinite = f"CASE {raw}::VARCHAR WHEN 'infinity' THEN {last} ELSE {first} END"
    return f"CASE WHEN {_is_infinite(raw, found)} THEN {infinite} ELSE {local} END"


def _is_infinite(raw: str, found: pa.DataType) -> str:
    """Return a cheap test: making a text of each time takes longer than reading the file."""
    if is_nanoseconds(found) and found.tz is not None:  # DuckDB 2.0.0 has no isinf for these
        return f"{raw} IN ('infinity'::TIMESTAMPTZ_NS, '-infinity'::TIMESTAMPTZ_NS)"
    return f"isinf({raw})"


def within(
    raw: str, found: pa.DataType, since_us: int | None, until_us: int | None, *, zone: str
) -> list[str]:
    """Return predicates that hold for a timestamp column at least where its instant is in a span.

    They compare what is written, so that DuckDB skips row groups by their statistics. See
    `is_exactly_within`.
    """
    per_us = 1_000 if found.unit == "ns" else 1
    margin = margin_us(found, zone)
    bounds = [(">=", since_us, -margin), ("<=", until_us, margin)]
    return [
        f"{raw} {sign} {_written(found, (us + off) * per_us)}"
        for sign, us, off in bounds
        if us is not None and abs(us + off) * per_us < _FAR
    ]


def is_exactly_within(found: pa.DataType, bounds_us: Iterable[int], *, zone: str) -> bool:
    """Whether what `within` returns for such bounds holds nowhere else."""
    return margin_us(found, zone) == 0 and all(abs(us) < _FAR for us in bounds_us)


def _written(found: pa.DataType, number: int) -> str:
    """Return a constant of a timestamp column's type."""
    if found.unit == "ns":
        zoned = "::TIMESTAMPTZ_NS" if found.tz is not None else ""
        return f"make_timestamp_ns({number}){zoned}"
    return f"make_timestamp{'tz' if found.tz is not None else ''}({number})"


def nanoseconds(raw: str, found: pa.DataType) -> str:
    """Return by how many nanoseconds rounding up moved a time, negative: -999 to 0.

    Times that meet in a microsecond are in this order, also if they come from files of other units.
    """
    if not is_nanoseconds(found):
        return "0::BIGINT"
    rest = f"epoch_ns({raw}) % 1000"
    return f"({rest} - 1000 * ({rest} > 0)::BIGINT)"


def from_local(micros: str, spans: Sequence[LocalSpan], read: str) -> str:
    """Return local microseconds as microseconds of UTC, by the span in which `read` lies.

    The policy for times that occur twice is already in the spans' offsets.
    """
    return _by_span(read, spans, lambda span: _span_value(micros, span))


def is_refused(micros: str, spans: Sequence[LocalSpan], kinds: Collection[str]) -> str:
    """Return the predicate that local microseconds lie in a span of one of these kinds."""
    return _by_span(micros, spans, lambda span: str(span.kind in kinds).lower())


def _by_span(micros: str, spans: Sequence[LocalSpan], answer: Callable[[LocalSpan], str]) -> str:
    """Return the answer for the span that a time lies in, by halves: there may be hundreds."""
    if len(spans) == 1:
        return answer(spans[0])
    middle = len(spans) // 2
    earlier = _by_span(micros, spans[:middle], answer)
    later = _by_span(micros, spans[middle:], answer)
    if earlier == later:
        return earlier
    return f"CASE WHEN {micros} < {spans[middle].start} THEN {earlier} ELSE {later} END"


def _span_value(micros: str, span: LocalSpan) -> str:
    if span.kind == "never":
        return f"CASE WHEN {micros} IS NOT NULL THEN {span.resume} END"
    return f"{micros} - ({span.offset})"


def value(raw: str, found: pa.DataType, declared: pa.DataType, spans: Sequence[LocalSpan]) -> str:
    """Return a feature or key column as its declared type."""
    declared, base = base_type(declared), base_type(found)
    if pa.types.is_null(found):
        return f"NULL::{sql_type(declared)}"
    if pa.types.is_timestamp(declared):
        return instant(raw, found, spans, up=False)
    if pa.types.is_list(declared) and pa.types.is_timestamp(declared.value_type):
        element = instant("x", found.value_type, spans, up=False)
        return f"list_transform({raw}, lambda x: {element})"
    if found == pa.uuid():
        return f"unhex(replace({raw}::VARCHAR, '-', ''))"
    return raw if base == declared else f"CAST({raw} AS {sql_type(declared)})"
