"""What Arrow's reader does not refuse in an IPC stream, and we do: ways to be small and get large.

A message's metadata is a flatbuffer, which Arrow verifies when it reads the message; two of its
fields are looked up here, because no API of pyarrow tells them.
"""

import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.errors import SpineError, shown

MAX_COLUMNS: Final = 10_000
MAX_MESSAGES: Final = 100_000

# Numbers of fields in Arrow's Message.fbs.
_HEADER, _COMPRESSION, _DATA, _IS_DELTA = 2, 3, 1, 2
_INT32: Final = struct.Struct("<i")
_UINT32: Final = struct.Struct("<I")
_UINT16: Final = struct.Struct("<H")


def check_messages(stream: pa.Buffer) -> None:
    """Look through the messages of a stream, before anything is made of them.

    Raises:
        SpineError: There are too many, one is compressed, or adds to a dictionary: the size of what
            they stand for does not follow from their own.
        pa.ArrowException: They are no messages.
        struct.error: Their metadata contradict themselves.
    """
    for number, message in enumerate(_messages(stream)):
        if number >= MAX_MESSAGES:
            raise SpineError(
                f"The spine's stream has more than {MAX_MESSAGES:,} messages.",
                hint="send larger record batches",
            )
        header = _table(message.metadata, 0, _HEADER)
        if message.type == "dictionary" and header is not None:
            delta = _field(message.metadata, header, _IS_DELTA)
            if delta is not None and message.metadata[delta]:
                raise SpineError(
                    "The spine's stream adds to a dictionary.", hint="send dictionaries whole"
                )
            header = _child(message.metadata, header, _DATA)
        has_rows = message.type in ("dictionary", "record batch") and header is not None
        if has_rows and _field(message.metadata, header or 0, _COMPRESSION) is not None:
            raise SpineError(
                "The spine's stream is compressed.", hint="send it without compression"
            )


def _messages(stream: pa.Buffer) -> Iterator[pa.ipc.Message]:
    reader = pa.ipc.MessageReader.open_stream(stream)
    while True:
        try:
            yield reader.read_next_message()
        except StopIteration:
            return


def _table(buffer: pa.Buffer, root: int, field: int) -> int | None:
    """Return where the table is that a field of the root table holds."""
    start = root + _UINT32.unpack_from(buffer, root)[0]
    return _child(buffer, start, field)


def _child(buffer: pa.Buffer, table: int, field: int) -> int | None:
    at = _field(buffer, table, field)
    return None if at is None else int(at + _UINT32.unpack_from(buffer, at)[0])


def _field(buffer: pa.Buffer, table: int, field: int) -> int | None:
    """Return where a field of a table is; None if it has its default."""
    fields = table - _INT32.unpack_from(buffer, table)[0]
    slot = 4 + 2 * field
    if fields < 0 or slot + 2 > _UINT16.unpack_from(buffer, fields)[0]:
        return None
    offset = _UINT16.unpack_from(buffer, fields + slot)[0]
    return table + offset if offset else None


def check_schema(schema: pa.Schema) -> None:
    """Refuse types whose values may be far larger than what was sent, and cannot be measured.

    Raises:
        SpineError: There are too many columns, or one is of such a type; it is named.
        UnicodeDecodeError: The name of a column, or of a part of one, is no text.
    """
    if len(schema) > MAX_COLUMNS:
        raise SpineError(f"The spine has {len(schema):,} columns; {MAX_COLUMNS:,} are the limit.")
    for field in schema:
        _check_names(field)
        refused = _refused(field.type, is_whole_column=True)
        if refused is not None:
            raise SpineError(
                f"Column {shown(field.name)} of the spine: {refused} is not taken here.",
                column=field.name,
                hint="cast the column to a plain type",
            )


def _check_names(field: pa.Field) -> None:
    """Raise UnicodeDecodeError if a name is no text: Arrow finds out when somebody asks for it."""
    _ = field.name
    for number in range(field.type.num_fields):
        _check_names(field.type.field(number))


def _refused(dtype: pa.DataType, *, is_whole_column: bool) -> pa.DataType | None:
    if isinstance(dtype, pa.BaseExtensionType):
        return _refused(dtype.storage_type, is_whole_column=is_whole_column)
    if pa.types.is_dictionary(dtype):
        simple = not pa.types.is_nested(dtype.value_type) and _is_plain(dtype.value_type)
        return None if is_whole_column and simple else dtype
    if pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype):
        return None if is_whole_column else dtype
    if not _is_plain(dtype):
        return dtype
    children = [dtype.field(number) for number in range(dtype.num_fields)]
    found = (_refused(child.type, is_whole_column=False) for child in children)
    return next((child for child in found if child is not None), None)


def _is_plain(dtype: pa.DataType) -> bool:
    kinds = (
        pa.types.is_run_end_encoded,
        pa.types.is_union,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
        pa.types.is_dictionary,
    )
    return not any(is_kind(dtype) for is_kind in kinds)


def decoded_bytes(batch: pa.RecordBatch) -> int:
    """Return how many bytes a batch takes once its columns are plain, without making them so."""
    return sum(_decoded_bytes(column) for column in batch.columns)


def _decoded_bytes(column: pa.Array) -> int:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    dtype = column.type
    if pa.types.is_string_view(dtype) or pa.types.is_binary_view(dtype):
        # Of each view's four numbers the first is its length; where the value is null, anything.
        views = np.frombuffer(column.buffers()[1], np.int32)
        lengths = views[4 * column.offset : 4 * (column.offset + len(column)) : 4]
        return int(lengths.clip(0).sum(dtype=np.int64))
    if pa.types.is_dictionary(dtype):
        return _dictionary_bytes(column)
    return int(column.nbytes)


def _dictionary_bytes(column: pa.DictionaryArray) -> int:
    dtype, indices = column.dictionary.type, column.indices.drop_null()
    if pa.types.is_null(dtype):
        return 0
    if pa.types.is_boolean(dtype) or pa.types.is_primitive(dtype) or pa.types.is_decimal(dtype):
        return len(indices) * (int(dtype.bit_width) // 8 or 1)
    if pa.types.is_fixed_size_binary(dtype):
        return len(indices) * int(dtype.byte_width)
    lengths = pc.binary_length(column.dictionary.cast(_offsets_type(dtype)))
    return int(pc.sum(lengths.cast(pa.int64()).take(indices), min_count=0).as_py())


def _offsets_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type that says lengths of values of a text type, views included."""
    is_text = pa.types.is_string_view(dtype) or pa.types.is_string(dtype)
    return pa.large_string() if is_text or pa.types.is_large_string(dtype) else pa.large_binary()
