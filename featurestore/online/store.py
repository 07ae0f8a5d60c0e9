"""The contract with whatever holds the newest values (SEMANTICS, section 5).

A store maps the bytes of an entity to the bytes of its newest row, per table. What the bytes mean
is the codec's business (`featurestore.online.codec`); a store only ever compares the version, the
16 bytes of every value that hold (event time, created time) in an order-preserving form.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, overload

VERSION_START = 3
"""Where the version begins inside a value; before it: format (1 byte) and schema id (2 bytes)."""
VERSION_END = VERSION_START + 16


Pace = Callable[[int], None]
"""Told how many rows were just deleted, at least 1; it may wait, and so limit the rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableId:
    """One generation of one view: the unit that is written, read and dropped.

    Attributes:
        project: The project's name.
        view: The view's name, not a role's.
        generation: Counts up from 1 with every change of the view's meaning.
    """

    project: str
    view: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRows:
    """Rows ready to be stored; all sequences have the same length.

    Attributes:
        keys: Entity bytes, as `codec.encode_keys` makes them; a key may occur more than once.
        values: Row bytes, as `RowCodec.encode` makes them.
        remaining_ms: Milliseconds after which the store may drop each row, at least 1; None when
            rows of this view are never dropped.
    """

    keys: Sequence[bytes]
    values: Sequence[bytes]
    remaining_ms: Sequence[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteCounts:
    """What became of the rows offered: `written` replaced or joined, `kept` lost to a newer row."""

    written: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """Which rows of one table to read.

    Attributes:
        table: The table.
        keys: Entity bytes.
        row_bytes: The length of every row, where the caller knows it; tombstones are shorter. A
            store may then answer with `FixedRows`.
    """

    table: TableId
    keys: Sequence[bytes]
    row_bytes: int | None = None


class FixedRows(Sequence[bytes | None]):
    """Rows of one length at equal distances in memory: what a store read, not taken apart.

    Args:
        memory: What holds them.
        start: Where the first one begins.
        stride: The distance from one to the next.
        row_bytes: The length of each.
        length: How many there are; none is missing.
    """

    __slots__ = ("length", "memory", "row_bytes", "start", "stride")

    def __init__(
        self, memory: bytes | bytearray, *, start: int, stride: int, row_bytes: int, length: int
    ) -> None:
        self.memory = memory
        self.start = start
        self.stride = stride
        self.row_bytes = row_bytes
        self.length = length

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> list[bytes | None]: ...
    def __getitem__(self, index: int | slice) -> bytes | list[bytes | None]:
        places = range(self.length)[index]
        if isinstance(places, range):
            return [self._row(place) for place in places]
        return self._row(places)

    def _row(self, place: int) -> bytes:
        at = self.start + place * self.stride
        return bytes(self.memory[at : at + self.row_bytes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a store's self-check says about one thing."""

    subject: str
    status: str
    """ "ok", "warning" or "error"."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a store promises; the conformance suite holds it to each promise."""

    shared: bool
    """Whether other processes see what one process wrote."""
    expires: bool
    """Whether the store itself drops rows when their remaining time is over."""
    in_process: bool = False
    """Whether rows lie in this process's memory, or are mapped into it: reading some of them takes
    microseconds and waits for nobody, and may be done on the thread of an event loop."""


class OnlineStore(Protocol):
    """Newest row per entity. Safe to use from several threads.

    Every method raises `StoreUnavailableError` (retryable) when the store cannot be reached or does
    not answer in time, and `StoreError` when it answers with an error, such as being full.
    """

    capabilities: ClassVar[Capabilities]

    def write(self, table: TableId, rows: EncodedRows, *, overwrite: bool = False) -> WriteCounts:
        """Store rows; each replaces the stored one iff its version is greater or equal.

        Comparison and write are one atomic step per row. Rows of one call are applied in order.
        With `overwrite` the comparison is left out. A tombstone is a value like any other.
        """
        ...

    def read(
        self, requests: Sequence[ReadRequest], *, until: float | None = None
    ) -> Sequence[Sequence[bytes | None]]:
        """Return for each request its values in the order of its keys; None where there is no row.

        They are a list, or `FixedRows` where the request has `row_bytes`. One round trip, or one
        read transaction, for all requests together.

        Args:
            requests: What to read.
            until: When nobody waits for it any more, by the monotonic clock: a store that waits for
                others gives up then. None leaves it to the store's own timeout.
        """
        ...

    def scan(
        self, table: TableId, *, batch_rows: int = 1000
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yield all (entity bytes, value) of a table in batches, in any order, each row once.

        Rows written meanwhile may or may not appear.
        """
        ...

    def count(self, table: TableId) -> int:
        """Return how many rows a table holds, tombstones included."""
        ...

    def drop(self, table: TableId, *, pace: Pace | None = None) -> int:
        """Delete a table and return how many rows it had. Nothing outside the table is touched.

        Args:
            table: The table; `tables` does not name it afterwards.
            pace: Called after each part that was deleted with the number of its rows; it may wait.
        """
        ...

    def tables(self, project: str) -> list[TableId]:
        """Return the tables of a project that were written and not dropped since, in any order."""
        ...

    def check(self) -> list[Finding]:
        """Return what an operator should know: version, memory, eviction, persistence, clock."""
        ...

    def close(self) -> None:
        """Let go of connections and files. The store cannot be used afterwards; twice is fine."""
        ...
