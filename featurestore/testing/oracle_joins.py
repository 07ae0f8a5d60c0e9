"""Who is whose partner in a transform's join, by looking at every joined row for every row.

Nothing here is shared with an engine. Of rows with equal keys, none of them null, the partner is
the one with the greatest rank among those whose event time, rounded up, is not after the row's; in
`as_served` among those that were written by the time at which the row was known itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from featurestore.definitions import FeatureView, FileSource
from featurestore.definitions.row_join import RowJoin
from featurestore.errors import SourceError
from featurestore.testing.local_time import instant_ns, round_down, round_up
from featurestore.testing.plain import RawTime, Row

Joined = Mapping[str, Mapping[str, Sequence[Row]]]
"""Source -> path of a file -> its rows."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A row that asks for its partners: its columns, and its times in microseconds."""

    row: Row
    event_us: int | None
    created_us: int | None
    is_served: bool


def partner_rows(view: FeatureView, asker: Asker, files: Joined) -> dict[str, Row | None]:
    """Return name of a join -> the joined row, its times as instants, or None.

    Raises:
        SourceError: A static source has two rows of the key.
    """
    transform = view.row_transform
    joins = () if transform is None else transform.joins
    return {join.name: _partner(join, view.joined_source(join), asker, files) for join in joins}


def _partner(join: RowJoin, source: FileSource, asker: Asker, files: Joined) -> Row | None:
    found: list[tuple[tuple[object, ...], Row]] = []
    for ordinal, row in enumerate(_rows(source, files)):
        pairs = [(asker.row[key.own], row[key.joined]) for key in join.keys]
        if any(own is None or own != other for own, other in pairs):
            continue
        if source.static:
            found.append(((ordinal,), row))
        elif (rank := _rank(source, row, asker)) is not None:
            found.append(((*rank, ordinal), row))
    if source.static and len(found) > 1:
        raise SourceError(f"Source {source.name!r}: a key has two rows.", source=source.name)
    best = max(found, key=lambda pair: pair[0], default=None)
    return None if best is None else {k: _read(source, v) for k, v in best[1].items()}


def _rank(source: FileSource, row: Row, asker: Asker) -> tuple[object, ...] | None:
    """Return what decides between visible rows, None for one that is not."""
    event = _nanoseconds(source, row[source.event_field])
    created = None
    if source.created_timestamp_column is not None:
        created = _nanoseconds(source, row[source.created_timestamp_column])
    if event is None or asker.event_us is None or round_up(event) > asker.event_us:
        return None
    known_us = max(asker.event_us, asker.created_us or asker.event_us)
    if asker.is_served and (created is None or round_up(created) > known_us):
        return None
    created_us = None if created is None else round_up(created)
    return (
        round_up(event),
        (created_us is not None, created_us or 0),
        event,
        (created is not None, created or 0),
    )


def _rows(source: FileSource, files: Joined) -> Iterator[Row]:
    for path in sorted(files[source.name], key=str.encode):
        for row in files[source.name][path]:
            yield {source.field_mapping.get(name, name): value for name, value in row.items()}


def _nanoseconds(source: FileSource, value: object) -> int | None:
    if not isinstance(value, RawTime):
        return None
    return instant_ns(value, source.timezone, ambiguous=source.ambiguous, missing=source.missing)


def _read(source: FileSource, value: object) -> object:
    ns = _nanoseconds(source, value)
    return value if ns is None else RawTime(round_down(ns) * 1_000)
