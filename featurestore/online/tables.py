"""What all stores share: how a table is called inside one, and which rows it takes."""

import hashlib
import json
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import Final

from featurestore.online.store import VERSION_END, EncodedRows, TableId

DIGEST_LENGTH: Final = 11
"""Characters of a digest: 64 bits in base64url, which holds no glob character and no brace."""
MAX_KEY_BYTES: Final = 255


@lru_cache(maxsize=4_096)
def table_digest(table: TableId) -> bytes:
    """Return the 11 ASCII characters that stand for a table in keys.

    They are BLAKE2b-64 over project, view and generation with a NUL in between, in base64url.

    Raises:
        ValueError: A name holds a NUL, with which two tables could look the same.
    """
    parts = (table.project, table.view, str(table.generation))
    if any("\0" in part for part in parts):
        raise ValueError("a project or view whose name holds a NUL cannot be stored")
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=8).digest()
    return urlsafe_b64encode(digest).rstrip(b"=")


def table_label(table: TableId) -> bytes:
    """Return project, view and generation as a JSON list, as a store's catalogue keeps them."""
    return json.dumps([table.project, table.view, table.generation]).encode()


def read_label(label: bytes) -> TableId:
    """Return the table that `table_label` wrote.

    Raises:
        ValueError: It is not a label.
    """
    parts = json.loads(label)
    if not isinstance(parts, list) or [type(p) for p in parts] != [str, str, int]:
        raise ValueError("not the label of a table")
    return TableId(project=parts[0], view=parts[1], generation=parts[2])


def check_rows(table: TableId, rows: EncodedRows) -> None:
    """Refuse rows that a store cannot take, before any of them is written.

    Raises:
        ValueError: The table's names hold a NUL, the sequences differ in length, a key is empty or
            longer than 255 bytes, a value has no version, or a remaining time is below a
            millisecond.
    """
    table_digest(table)
    if len(rows.keys) != len(rows.values):
        raise ValueError(f"{len(rows.keys)} keys for {len(rows.values)} values")
    if not rows.keys:
        return
    sizes = set(map(len, rows.keys))
    if min(sizes) < 1 or max(sizes) > MAX_KEY_BYTES:
        raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes, not {min(sizes)} to {max(sizes)}")
    if min(map(len, rows.values)) < VERSION_END:
        raise ValueError(f"a value shorter than {VERSION_END} bytes has no version")
    if rows.remaining_ms is not None:
        if len(rows.remaining_ms) != len(rows.keys):
            raise ValueError(f"{len(rows.remaining_ms)} remaining times for {len(rows.keys)} keys")
        if min(rows.remaining_ms) < 1:
            raise ValueError("a remaining time is at least 1 millisecond")
