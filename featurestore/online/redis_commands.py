"""Rows -> the bytes of Redis commands. Pure.

The client's own packing takes a microsecond an argument, three or more for each row: more than the
server needs for the row.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain, repeat
from typing import Final

from featurestore.online.store import EncodedRows, TableId
from featurestore.online.tables import table_digest, table_label

ROWS_PER_CALL: Final = 256
"""Rows of one script call. The server does nothing else meanwhile: about a millisecond."""
BYTES_PER_CALL: Final = 1 << 22

# KEYS: n keys. ARGV: "1" to leave the comparison out, else "0"; n values; then n durations in
# milliseconds, unless the rows are never dropped. Returns how many rows were written.
#
# The 16 bytes of the version are compared as four numbers of 32 bits: Lua's own numbers are doubles
# and its string order follows the server's locale. Arguments are strings: redis.call() would format
# a number anew on each call, which cost a third of the time.
SCRIPT: Final = """
local call, unpack = redis.call, struct.unpack
local rows = #KEYS
local compares = ARGV[1] == '0'
local expires = #ARGV > rows + 1
local written = 0
for i = 1, rows do
  local key, value, newer = KEYS[i], ARGV[i + 1], true
  if compares then
    local old = call('GETRANGE', key, '3', '18')
    if #old == 16 then
      local a, b, c, d = unpack('>I4I4I4I4', old)
      local e, f, g, h = unpack('>I4I4I4I4', value, 4)
      if a ~= e then newer = e > a
      elseif b ~= f then newer = f > b
      elseif c ~= g then newer = g > c
      else newer = h >= d end
    end
  end
  if newer then
    if expires then call('SET', key, value, 'PX', ARGV[i + rows + 1])
    else call('SET', key, value) end
    written = written + 1
  end
end
return written
"""
_END: Final = b"\r\n"
_FEW: Final = 8
"""So few values cost less one by one: those of one slot of a cluster."""


def catalogue_key(project: str) -> bytes:
    """Return the key of the hash that tells which tables a project has."""
    return b"featurestore:catalogue:" + project.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=1_024)
def label_command(table: TableId) -> bytes:
    """Return the command that tells the catalogue of a table.

    It goes along with every write: whoever drops the table, or empties the server, tells nobody.
    """
    key, digest = catalogue_key(table.project), table_digest(table)
    return packed(b"HSET", key, digest, table_label(table))


def row_prefix(table: TableId) -> bytes:
    """Return what stands in front of the entity bytes in the key of a row."""
    return table_digest(table) + b"{"


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


def chunks_of(values: Sequence[bytes]) -> list[slice]:
    """Return the rows of each call: so few that the server is not held up, in rows or in bytes."""
    rows = min(ROWS_PER_CALL, max(1, BYTES_PER_CALL // max(map(len, values), default=1)))
    return [slice(start, start + rows) for start in range(0, len(values), rows)]


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


def packed(*words: bytes) -> bytes:
    """Return a command."""
    return b"*%d\r\n" % len(words) + _words(words)


def _words(values: Sequence[bytes], prefix: bytes = b"", suffix: bytes = b"") -> bytes:
    """Return the arguments prefix + value + suffix, one after the other."""
    if len(values) <= _FEW:
        around = len(prefix) + len(suffix)
        parts = [b"$%d\r\n%b%b%b\r\n" % (around + len(v), prefix, v, suffix) for v in values]
        return b"".join(parts)
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
