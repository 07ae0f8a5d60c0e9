"""Where each column lies inside a row's bytes.

    offset  bytes  what
    0       1      format: ROW, PUSHED (a row that an application wrote) or TOMBSTONE (which ends
                   after the created time)
    1       2      schema id, little endian: a hash of the columns' types
    3       8      event time   } microseconds since the epoch, as int64 with the sign bit flipped,
    11      8      created time } big endian, so that bytes compare as times do; null = 8 zeros
    19      n      null bitmap: bit i % 8 of byte i // 8 is set when column i is null
    19 + n  ...    fixed block: in column order, each value little endian in its own width; of a
                   column of varying width the end of its bytes in the variable block, as uint32
    head    ...    variable block: the bytes of those columns, in column order

A null has zeros in the fixed block and no bytes in the variable one. Fixed-width rows of one table
are therefore equally long, and a batch of them decodes as one array of records.

A list is 1 byte (1 when an element is null), the number of elements as uint32, then, if an element
is null, a bitmap like the one above, then the elements: of fixed width end to end, else their ends
as uint32 and their bytes.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

MISSING: Final = 0
ROW: Final = 1
TOMBSTONE: Final = 2
PUSHED: Final = ROW | 2
"""Read as ROW is; it lets `verify` tell rows that no materialization wrote."""
SIGN_BIT: Final = 1 << 63
MAX_ROW_BYTES: Final = 64 << 20
MAX_CHOICES: Final = 1_024
"""Choices of columns that a layout remembers."""

Array: TypeAlias = npt.NDArray[Any]

FIXED_DTYPES: Final = {
    "bool": "?",
    "int8": "i1",
    "int16": "<i2",
    "int32": "<i4",
    "int64": "<i8",
    "uint8": "u1",
    "uint16": "<u2",
    "uint32": "<u4",
    "uint64": "<u8",
    "float32": "<f4",
    "float64": "<f8",
    "date32": "<i4",
    "timestamp[us, UTC]": "<i8",
}
"""Types whose values are numbers of fixed width, with their numpy dtypes."""

DECIMAL_DTYPE: Final = "V16"
"""A decimal's digits as a 128-bit integer, little endian, as Arrow holds them."""
END_DTYPE: Final = "<u4"

_DECIMAL: Final = re.compile(r"decimal128\((\d{1,2}), (-?\d{1,2})\)")
_LIST: Final = re.compile(r"list<(.+)>")


@dataclass(frozen=True)
class ColumnType:
    """What the codec has to know of a type.

    Attributes:
        name: The type as `featurestore.types.type_name` writes it.
        fixed: The numpy dtype of a value in the fixed block; None when its width varies.
        scale: Digits behind a decimal's point; None when it is no decimal.
        element: The type of a list's elements; None when it is no list.
    """

    name: str
    fixed: str | None = None
    scale: int | None = None
    element: "ColumnType | None" = None

    @property
    def is_number(self) -> bool:
        """Whether values decode to a numpy array rather than to a list."""
        return self.fixed is not None and self.scale is None


@lru_cache(maxsize=1_024)
def column_type(name: str) -> ColumnType:
    """Return what the codec has to know of the type called `name`.

    Raises:
        ValueError: An online store cannot hold such values.
    """
    if (fixed := FIXED_DTYPES.get(name)) is not None:
        return ColumnType(name, fixed=fixed)
    if name in ("string", "binary"):
        return ColumnType(name)
    if match := _DECIMAL.fullmatch(name):
        return ColumnType(name, fixed=DECIMAL_DTYPE, scale=int(match[2]))
    if (match := _LIST.fullmatch(name)) and not match[1].startswith("list<"):
        return ColumnType(name, element=column_type(match[1]))
    raise ValueError(f"{name[:80]!r} is not a type that can be served online")


class Run(NamedTuple):
    """Columns that are decoded at once.

    Attributes:
        first: The first one's position.
        length: How many there are, side by side; more than one only of numbers of one type.
        dtype: That type; None when they are no numbers.
        offset: Where the first one begins in a row.
    """

    first: int
    length: int
    dtype: "np.dtype[Any] | None"
    offset: int


class RowLayout:
    """The offsets of a table's columns, as a numpy record dtype.

    Attributes:
        types: The columns' types.
        schema_id: 16 bits of a hash of the types' names.
        schema_bytes: The two bytes that stand for it.
        bitmap_bytes: Length of the null bitmap.
        record: Packed dtype of everything before the variable block, with the fields `format`,
            `schema`, `event`, `created`, `nulls` (bytes) and `c0`, `c1`, ...
        head_bytes: Bytes before the variable block.
        names: The columns' fields in `record`.
        variable: Positions of the columns of varying width.
    """

    def __init__(self, dtypes: Sequence[str]) -> None:
        self.types = tuple(column_type(name) for name in dtypes)
        digest = hashlib.blake2b("\0".join(dtypes).encode(), digest_size=2).digest()
        self.schema_id = int.from_bytes(digest, "little")
        self.schema_bytes = (digest[0], digest[1])
        self.bitmap_bytes = (len(self.types) + 7) // 8
        fields: list[Any] = [("format", "u1"), ("schema", "<u2"), ("event", ">u8")]
        fields += [("created", ">u8"), ("nulls", "u1", (self.bitmap_bytes,))]
        self.names = tuple(f"c{i}" for i in range(len(self.types)))
        fields += [(n, t.fixed or END_DTYPE) for n, t in zip(self.names, self.types, strict=True)]
        self.record = np.dtype(fields)
        self.head_bytes = self.record.itemsize
        self.variable = tuple(i for i, t in enumerate(self.types) if t.fixed is None)
        self._runs: dict[tuple[int, ...], list[Run]] = {}

    def runs_of(self, wanted: tuple[int, ...]) -> list[Run]:
        """Return columns, given by their positions, in as few runs as there are, in that order."""
        if (runs := self._runs.get(wanted)) is not None:
            return runs
        runs = []
        for i in wanted:
            run = Run(i, 1, self._dtype(i), self._offset(i))
            last = runs[-1] if runs else run
            # numpy takes None for float64
            is_like_last = (
                run.dtype is not None and last.dtype is not None and run.dtype == last.dtype
            )
            if is_like_last and i == last.first + last.length:
                runs[-1] = last._replace(length=last.length + 1)
            else:
                runs.append(run)
        if len(self._runs) < MAX_CHOICES:
            self._runs[wanted] = runs
        return runs

    def _dtype(self, column: int) -> "np.dtype[Any] | None":
        kind = self.types[column]
        return np.dtype(kind.fixed) if kind.is_number else None

    def _offset(self, column: int) -> int:
        place: Any = self.record.fields
        return int(place[self.names[column]][1])

    @cached_property
    def filler(self) -> bytes:
        """Return the head that stands in for a missing row in a batch; it is never stored."""
        head = np.zeros(1, self.record)
        head["format"], head["schema"], head["event"] = MISSING, self.schema_id, SIGN_BIT
        return head.tobytes()
