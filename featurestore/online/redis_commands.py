"""Rows -> the bytes of Redis commands. Pure.

The client's own packing takes a microsecond an argument, three or more for each row: more than the
server needs for the row.
"""

from collections.abc import Iterable, Sequence
from itertools import chain, repeat
from typing import Final

from featurestore.online.store import EncodedRows

_END: Final = b"\r\n"


def add_commands(prefix: bytes, rows: EncodedRows) -> bytes:
    """Return a SET for each row that writes it if there is none under its key.

    The key is the prefix, the entity bytes and `}`. The server answers OK or null to each.
    """
    count = 4 if rows.remaining_ms is None else 6
    columns: list[Iterable[bytes]] = [
        *_with_lengths(rows.keys, b"*%d\r\n$3\r\nSET\r\n$" % count, prefix, b"}"),
        *_with_lengths(rows.values, b"}\r\n$"),
    ]
    if rows.remaining_ms is not None:
        durations = _decimal(rows.remaining_ms)
        columns += _with_lengths(durations, b"\r\n$2\r\nNX\r\n$2\r\nPX\r\n$")
        columns.append(repeat(_END, len(rows.keys)))
    else:
        columns.append(repeat(b"\r\n$2\r\nNX\r\n", len(rows.keys)))
    return b"".join(chain.from_iterable(zip(*columns, strict=True)))


def script_command(script_id: bytes, prefix: bytes, rows: EncodedRows, option: bytes) -> bytes:
    """Return one EVALSHA: the keys, then as arguments the option, the values and the durations."""
    durations = _decimal(rows.remaining_ms) if rows.remaining_ms is not None else []
    count = 4 + len(rows.keys) + len(rows.values) + len(durations)
    return b"".join(
        [
            b"*%d\r\n" % count,
            _words([b"EVALSHA", script_id, b"%d" % len(rows.keys)]),
            _words(rows.keys, prefix, b"}"),
            _words([option]),
            _words(rows.values),
            _words(durations),
        ]
    )


def part_of(rows: EncodedRows, part: slice) -> EncodedRows:
    """Return some of the rows."""
    remaining = None if rows.remaining_ms is None else rows.remaining_ms[part]
    return EncodedRows(keys=rows.keys[part], values=rows.values[part], remaining_ms=remaining)


def chosen_rows(rows: EncodedRows, chosen: Sequence[int]) -> EncodedRows:
    """Return the rows at these positions."""
    remaining = rows.remaining_ms
    return EncodedRows(
        keys=[rows.keys[i] for i in chosen],
        values=[rows.values[i] for i in chosen],
        remaining_ms=None if remaining is None else [remaining[i] for i in chosen],
    )


def _words(values: Sequence[bytes], prefix: bytes = b"", suffix: bytes = b"") -> bytes:
    """Return the arguments prefix + value + suffix, one after the other."""
    heads, words = _with_lengths(values, b"$", prefix, suffix)
    ends = repeat(suffix + _END, len(values))
    return b"".join(chain.from_iterable(zip(heads, words, ends, strict=True)))


def _with_lengths(
    values: Sequence[bytes], before: bytes, prefix: bytes = b"", suffix: bytes = b""
) -> tuple[Iterable[bytes], Sequence[bytes]]:
    """Return what stands in front of each value, and the values.

    That is `before`, the length of prefix + value + suffix, and the prefix.
    """
    heads = _Heads(before, prefix, len(prefix) + len(suffix))
    return map(heads.__getitem__, map(len, values)), values


class _Heads(dict[int, bytes]):
    """Length of a value -> what stands in front of it; made once for all values of a length."""

    def __init__(self, before: bytes, prefix: bytes, extra: int) -> None:
        super().__init__()
        self._before, self._after, self._extra = before, _END + prefix, extra

    def __missing__(self, length: int) -> bytes:
        head = self[length] = b"%b%d%b" % (self._before, length + self._extra, self._after)
        return head


def _decimal(numbers: Sequence[int]) -> list[bytes]:
    """Return integers as text; all in one go, which is twice as fast as one by one."""
    return str(list(map(int, numbers)))[1:-1].encode().split(b", ") if numbers else []
