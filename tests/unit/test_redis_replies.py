"""A reply that is read without being parsed is the one that was expected, however it comes in."""

from hypothesis import given
from hypothesis import strategies as st

from featurestore.online.redis_replies import ReplyShape, expected_reply
from featurestore.online.store import ReadRequest, TableId

TABLE = TableId(project="shop", view="users", generation=1)
# Lengths and numbers of rows: lengths of one and of several digits.
SIZES = st.lists(st.tuples(st.integers(1, 120), st.integers(1, 12)), min_size=1, max_size=4)


def shape_of(sizes: list[tuple[int, int]]) -> ReplyShape:
    shape = expected_reply(
        [ReadRequest(table=TABLE, keys=[b"k"] * n, row_bytes=length) for length, n in sizes]
    )
    assert shape
    return shape


def reply_of(values: list[bytes | None]) -> bytes:
    parts = [b"_\r\n" if v is None else b"$%d\r\n%b\r\n" % (len(v), v) for v in values]
    return b"*%d\r\n" % len(values) + b"".join(parts)


def takes(shape: ReplyShape, reply: bytes, cuts: list[int]) -> bool:
    """Whether a reply that comes in these parts is taken, and not waited for in vain."""
    memory = bytearray(shape.size)
    size = 0
    whole = min(len(reply), shape.size)
    for end in sorted({min(cut, whole) for cut in cuts} | {whole}):
        memory[size:end] = reply[size:end]
        if not shape.fits(memory, size, end):
            return False
        size = end
    return size == shape.size


@given(SIZES, st.lists(st.integers(1, 4_000)), st.data())
def test_rows_that_are_all_there_are_found_where_they_lie(
    sizes: list[tuple[int, int]], cuts: list[int], data: st.DataObject
) -> None:
    groups = [
        data.draw(st.lists(st.binary(min_size=length, max_size=length), min_size=n, max_size=n))
        for length, n in sizes
    ]
    shape = shape_of(sizes)
    reply = reply_of([value for group in groups for value in group])
    assert len(reply) == shape.size
    assert takes(shape, reply, cuts)
    assert [list(rows) for rows in shape.rows(bytearray(reply))] == groups


@given(SIZES, st.lists(st.integers(1, 4_000)), st.data())
def test_a_row_that_is_missing_or_of_another_length_is_seen_at_once(
    sizes: list[tuple[int, int]], cuts: list[int], data: st.DataObject
) -> None:
    lengths = [length for length, n in sizes for _ in range(n)]
    values: list[bytes | None] = [bytes(length) for length in lengths]
    place = data.draw(st.integers(0, len(values) - 1))
    other = data.draw(st.none() | st.binary(max_size=200))
    if other is not None and len(other) == lengths[place]:
        other += b"x"
    values[place] = other
    reply = reply_of(values)
    assert not takes(shape_of(sizes), reply, [*cuts, shape_of(sizes).size])


def test_an_error_or_a_push_is_seen_at_once() -> None:
    shape = shape_of([(80, 40)])
    for reply in (b"-LOADING Redis is loading\r\n", b">2\r\n+invalidate\r\n*0\r\n", b"*39\r\n"):
        assert not takes(shape, reply, [1])


def test_a_shape_is_known_only_if_all_lengths_are() -> None:
    known = ReadRequest(table=TABLE, keys=[b"k"], row_bytes=8)
    assert expected_reply([known])
    assert expected_reply([known, ReadRequest(table=TABLE, keys=[b"k"])]) is None
    assert expected_reply([known, ReadRequest(table=TABLE, keys=[], row_bytes=8)]) is None
