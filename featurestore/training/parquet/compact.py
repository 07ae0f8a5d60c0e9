"""Thrift's compact protocol, as far as Parquet's headers and footers need it.

Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Self, TypeAlias

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST = range(1, 10)
STRUCT = 12
_WIDTHS: Final = {TRUE: 0, FALSE: 0, BYTE: 1, DOUBLE: 8}
"""Types of fixed width -> their bytes behind a field's header, which holds a bool as a whole."""
_LONG: Final = 15
"""What stands for a number that does not fit the four bits of a header."""

Changes: TypeAlias = "dict[int, Callable[[int], int] | Changes]"
"""What becomes of fields, by number: of integers, or of what structs and lists of them hold."""


class Struct:
    """A struct that is written field by field, in rising order of their numbers."""

    def __init__(self) -> None:
        self._out = bytearray()
        self._last = 0

    def i32(self, number: int, value: int) -> Self:
        """Add an integer of 32 bits."""
        return self.raw(number, I32, varint(_zigzag(value)))

    def i64(self, number: int, value: int) -> Self:
        """Add an integer of 64 bits."""
        return self.raw(number, I64, varint(_zigzag(value)))

    def binary(self, number: int, value: bytes) -> Self:
        """Add bytes, or a text as UTF-8."""
        return self.raw(number, BINARY, varint(len(value)) + value)

    def struct(self, number: int, value: bytes) -> Self:
        """Add a struct that was encoded."""
        return self.raw(number, STRUCT, value)

    def structs(self, number: int, values: Sequence[bytes]) -> Self:
        """Add a list of structs that were encoded."""
        return self.raw(number, LIST, _list_header(len(values), STRUCT) + b"".join(values))

    def i32s(self, number: int, values: Sequence[int]) -> Self:
        """Add a list of integers of 32 bits."""
        encoded = b"".join(varint(_zigzag(value)) for value in values)
        return self.raw(number, LIST, _list_header(len(values), I32) + encoded)

    def texts(self, number: int, values: Sequence[str]) -> Self:
        """Add a list of texts."""
        encoded = [text.encode() for text in values]
        items = b"".join(varint(len(text)) + text for text in encoded)
        return self.raw(number, LIST, _list_header(len(values), BINARY) + items)

    def raw(self, number: int, kind: int, value: bytes) -> Self:
        """Add a field of any type, whose value was encoded."""
        delta = number - self._last
        if not 0 < delta < 16:  # noqa: PLR2004 - four bits
            raise ValueError(f"field {number} cannot follow field {self._last}")
        self._out.append(delta << 4 | kind)
        self._out += value
        self._last = number
        return self

    def end(self) -> bytes:
        """Return the struct, encoded."""
        return bytes(self._out) + b"\0"


class Field(NamedTuple):
    """The header of a field."""

    number: int
    kind: int


class Reader:
    """Reads encoded values one after the other.

    Args:
        data: What is read.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fields(self) -> Iterator[Field]:
        """Yield the fields of a struct; the value of each is to be read before the next."""
        number = 0
        while header := self._byte():
            delta = header >> 4
            number = number + delta if delta else self.integer()
            yield Field(number, header & 15)

    def integer(self) -> int:
        """Return an integer of any width."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def raw(self, kind: int) -> bytes:
        """Return a value as it is encoded."""
        begin = self._at
        self._skip(kind)
        return self._data[begin : self._at]

    def structs(self) -> Iterator["Reader"]:
        """Yield this reader for each struct of a list; each is to be read before the next."""
        for _ in range(self._list_header()[0]):
            yield self

    def changed(self, changes: Changes) -> bytes:
        """Return a struct with other integers in some places."""
        out = Struct()
        for number, kind in self.fields():
            change = changes.get(number)
            if change is None:
                out.raw(number, kind, self.raw(kind))
            elif not isinstance(change, dict):
                out.raw(number, kind, varint(_zigzag(change(self.integer()))))
            elif kind == STRUCT:
                out.struct(number, self.changed(change))
            else:
                out.structs(number, [item.changed(change) for item in self.structs()])
        return out.end()

    def _skip(self, kind: int) -> None:
        if kind in _WIDTHS:
            self._at += _WIDTHS[kind]
        elif kind in (I16, I32, I64):
            self._varint()
        elif kind == BINARY:
            length = self._varint()
            self._at += length
        elif kind == STRUCT:
            for field in self.fields():
                self._skip(field.kind)
        elif kind == LIST:
            count, element = self._list_header()
            for _ in range(count):
                self._skip(BYTE if element in (TRUE, FALSE) else element)
        else:  # sets and maps: Parquet has none
            raise ValueError(f"Thrift's type {kind} is none that Parquet has.")

    def _list_header(self) -> tuple[int, int]:
        header = self._byte()
        count = header >> 4
        return (self._varint() if count == _LONG else count), header & 15

    def _byte(self) -> int:
        value = self._data[self._at]
        self._at += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:  # noqa: PLR2004 - the bit that says whether more bytes follow
                return value
            shift += 7


def _zigzag(value: int) -> int:
    return value << 1 if value >= 0 else (-value << 1) - 1


def varint(value: int) -> bytes:
    """Return a number that is not negative, seven bits a byte, the lowest first (ULEB128)."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _list_header(count: int, kind: int) -> bytes:
    if count < _LONG:
        return bytes([count << 4 | kind])
    return bytes([_LONG << 4 | kind]) + varint(count)
