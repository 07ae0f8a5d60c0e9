"""The type system: Arrow's.

`Float64`, `Int64` and so on are Arrow types under the names that feature stores use; anything that
expects one also takes the Arrow type itself. A type is written in JSON as `type_name()` says and
read by `parse_type()`.
"""

import json
import re
from typing import Final

import pyarrow as pa

Bool: Final = pa.bool_()
Int8: Final = pa.int8()
Int16: Final = pa.int16()
Int32: Final = pa.int32()
Int64: Final = pa.int64()
UInt8: Final = pa.uint8()
UInt16: Final = pa.uint16()
UInt32: Final = pa.uint32()
UInt64: Final = pa.uint64()
Float32: Final = pa.float32()
Float64: Final = pa.float64()
String: Final = pa.string()
Binary: Final = pa.binary()
Date: Final = pa.date32()
Timestamp: Final = pa.timestamp("us", tz="UTC")

_SCALARS: Final[dict[str, pa.DataType]] = {
    "bool": Bool,
    "int8": Int8,
    "int16": Int16,
    "int32": Int32,
    "int64": Int64,
    "uint8": UInt8,
    "uint16": UInt16,
    "uint32": UInt32,
    "uint64": UInt64,
    "float32": Float32,
    "float64": Float64,
    "string": String,
    "binary": Binary,
    "date32": Date,
    "timestamp[us, UTC]": Timestamp,
}
_NAMES: Final = {dtype: name for name, dtype in _SCALARS.items()}
MAX_DECIMAL_DIGITS: Final = 38
_DECIMAL: Final = re.compile(r"decimal128\((\d{1,2}), (-?\d{1,2})\)")
_LIST: Final = re.compile(r"list<(.+)>")
_STRUCT: Final = re.compile(r"struct<(.+)>")
_FLOAT_INTEGERS: Final = {Float32: 24, Float64: 53}  # bits an integer may have and stay exact

KEY_TYPES: Final = frozenset(
    {Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, String, Binary, Date}
)
"""What a join key may be."""


def Decimal(precision: int, scale: int) -> pa.DataType:  # noqa: N802 - reads as a type
    """Return the decimal type of at most 38 digits, `scale` of them behind the point."""
    return pa.decimal128(precision, scale)


def List(element: pa.DataType) -> pa.DataType:  # noqa: N802 - reads as a type
    """Return the type of lists of a scalar type."""
    return pa.list_(base_type(element))


Array = List
"""The incumbent's name for `List`."""


def base_type(dtype: pa.DataType) -> pa.DataType:
    """Return the type that a view, large, fixed-size or dictionary variant stands for.

    Timestamps of every unit and zone become `timestamp[us, UTC]`, date64 becomes date32.
    """
    if pa.types.is_dictionary(dtype):
        return base_type(dtype.value_type)
    if isinstance(dtype, pa.BaseExtensionType):
        return base_type(dtype.storage_type)
    if _is_list(dtype):
        return pa.list_(base_type(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([(field.name, base_type(field.type)) for field in dtype])
    return _base_scalar(dtype)


def _base_scalar(dtype: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(dtype):
        return Timestamp
    if pa.types.is_decimal(dtype) and dtype.precision <= MAX_DECIMAL_DIGITS:
        return pa.decimal128(dtype.precision, dtype.scale)
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return String
    if (
        pa.types.is_large_binary(dtype)
        or pa.types.is_binary_view(dtype)
        or pa.types.is_fixed_size_binary(dtype)
    ):
        return Binary
    return Date if pa.types.is_date64(dtype) else dtype


def _is_list(dtype: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(dtype)
        or pa.types.is_large_list(dtype)
        or pa.types.is_fixed_size_list(dtype)
        or pa.types.is_list_view(dtype)
        or pa.types.is_large_list_view(dtype)
    )


def type_name(dtype: pa.DataType) -> str:
    """Return the one way a type is written: `int64`, `list<float32>`, `timestamp[us, UTC]`.

    A type outside the type system is written as Arrow writes it, for messages.
    """
    dtype = base_type(dtype)
    if dtype in _NAMES:
        return _NAMES[dtype]
    if pa.types.is_list(dtype):
        return f"list<{type_name(dtype.value_type)}>"
    if pa.types.is_struct(dtype):
        return f"struct<{json.dumps([[field.name, type_name(field.type)] for field in dtype])}>"
    return str(dtype)


def parse_type(name: str) -> pa.DataType:
    """Return the type that `type_name` writes as `name`.

    Raises:
        ValueError: There is no such type, or a feature cannot have it.
    """
    if name in _SCALARS:
        return _SCALARS[name]
    if match := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(match[1]), int(match[2]))
    if match := _LIST.fullmatch(name):
        return pa.list_(parse_type(match[1]))
    if match := _STRUCT.fullmatch(name):
        return _parse_struct(match[1])
    raise ValueError(f"{name[:80]!r} is not a type of this feature store")


def _parse_struct(text: str) -> pa.DataType:
    try:
        return pa.struct([(field, parse_type(dtype)) for field, dtype in json.loads(text)])
    except TypeError:
        raise ValueError(f"{text[:80]!r} are not the fields of a struct") from None


def is_known_type(dtype: pa.DataType) -> bool:
    """Whether a feature can have this type at all; maps, unions and durations are not known."""
    dtype = base_type(dtype)
    if pa.types.is_list(dtype):
        return is_known_type(dtype.value_type)
    if pa.types.is_struct(dtype):
        return dtype.num_fields > 0 and all(is_known_type(field.type) for field in dtype)
    if pa.types.is_decimal128(dtype):
        return bool(0 <= dtype.scale <= dtype.precision)  # what Parquet can hold
    return dtype in _NAMES


def is_online_type(dtype: pa.DataType) -> bool:
    """Whether an online store can hold values of this type (a scalar, or a list of scalars)."""
    dtype = base_type(dtype)
    if pa.types.is_list(dtype):
        return not pa.types.is_list(dtype.value_type) and is_online_type(dtype.value_type)
    return dtype in _NAMES or bool(pa.types.is_decimal128(dtype))


def can_widen(found: pa.DataType, declared: pa.DataType) -> bool:
    """Whether every value of `found` is a value of `declared`, so that a cast cannot lose anything.

    Timestamps of every unit and zone count as widenable: how they are rounded is a rule of time.
    """
    found, declared = base_type(found), base_type(declared)
    if found == declared or pa.types.is_null(found):
        return True
    if pa.types.is_nested(found):
        return _nested_fits(found, declared)
    if pa.types.is_integer(found):
        return _integer_fits(found, declared)
    if pa.types.is_decimal(found) and pa.types.is_decimal(declared):
        room = declared.precision - declared.scale >= found.precision - found.scale
        return bool(room and declared.scale >= found.scale)
    wider = {pa.float16(): (Float32, Float64), Float32: (Float64,)}
    return declared in wider.get(found, ())


def _nested_fits(found: pa.DataType, declared: pa.DataType) -> bool:
    if pa.types.is_list(found) and pa.types.is_list(declared):
        return can_widen(found.value_type, declared.value_type)
    if not pa.types.is_struct(found) or not pa.types.is_struct(declared):
        return False
    same = [field.name for field in found] == [field.name for field in declared]
    return same and all(can_widen(a.type, b.type) for a, b in zip(found, declared, strict=True))


def _integer_fits(found: pa.DataType, declared: pa.DataType) -> bool:
    signed = pa.types.is_signed_integer(found)
    bits = found.bit_width - 1 if signed else found.bit_width
    if pa.types.is_integer(declared):
        if pa.types.is_signed_integer(declared):
            return bool(bits <= declared.bit_width - 1)
        return not signed and bool(bits <= declared.bit_width)
    if declared in _FLOAT_INTEGERS:
        return bool(bits <= _FLOAT_INTEGERS[declared])
    if pa.types.is_decimal(declared):
        return bool(len(str(2**bits)) <= declared.precision - declared.scale)
    return False


def width_of(dtype: pa.DataType) -> int:
    """Return about how many bytes a value takes in memory."""
    try:
        return max(1, int(dtype.bit_width) // 8)
    except ValueError:  # no fixed width
        return 32
