"""Whether a view's rows count the events of another source, and on which side of their stamp."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import FeatureStoreError
from featurestore.leakage.extract import (
    SINCE,
    UNTIL,
    Extract,
    ExtractTooLargeError,
    Wanted,
    column_values,
    extract,
)
from featurestore.leakage.points import sampled_rows
from featurestore.leakage.source_rows import Codes, SourceRows
from featurestore.offline.files import list_files
from featurestore.offline.footer import read_footer
from featurestore.offline.instants import Instants

Ints = npt.NDArray[np.int64]

ROWS: Final = 100
"""So many rows of a view are counted after."""
AGREES: Final = 0.95
DIFFERS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """That a feature counts the events of a source beside its rows' stamps.

    Attributes:
        feature: The feature.
        source: The source of the events.
        rows: How many rows were compared.
        after: The share of rows whose value is the number of events from the stamp on.
        before: The share whose value is the number of those up to the stamp.
    """

    feature: str
    source: str
    rows: int
    after: float
    before: float

    @property
    def leaks(self) -> bool:
        """Whether the events come after the stamp."""
        return self.after >= AGREES


def window_proof(
    view: FeatureView,
    length_us: int,
    sources: Iterable[FileSource],
    *,
    root: Path,
    chance: np.random.Generator,
) -> Proof | None:
    """Count the events of other sources beside the stamps of some rows.

    Args:
        view: A view with a schema, whose source has one row for each entity and length of time.
        length_us: That length.
        sources: Where its events may be: those with columns of its join keys' names are looked at.
        root: Folder that relative paths start at.
        chance: Draws the rows.

    Returns:
        The first feature that is such a count on one side and not on the other, or None.
    """
    rows = _rows_of(view, root, chance)
    for source in sources:
        if source.name != view.source.name and _has_keys(source, view, root):
            found = next(_proofs(view, rows, length_us, source, root), None)
            if found is not None:
                return found
    return None


def _rows_of(view: FeatureView, root: Path, chance: np.random.Generator) -> pa.Table:
    """Return keys, numeric features and times (called `SINCE`) of some rows."""
    source, names = view.source, [f.name for f in view.fields if _is_number(f.dtype)]
    plain = [name for name in names if view.row_transform is None]
    read = [*view.join_keys, *plain, source.event_field]
    parts = []
    for table, file in sampled_rows(source, root, read, chance, groups=1, most=ROWS):
        times = table.column(source.column_in_file(source.event_field)).combine_chunks()
        columns = {k: column_values(source, file, table, k, t) for k, t in view.join_keys.items()}
        columns |= {n: column_values(source, file, table, n, pa.float64()) for n in plain}
        parts.append(pa.table({**columns, SINCE: Instants(source).micros(times, up=True)}))
    return pa.concat_tables(parts).drop_null()


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def _has_keys(source: FileSource, view: FeatureView, root: Path) -> bool:
    try:
        file = list_files(source, root)[0]
        names = {*read_footer(source.name, file).schema.names, *dict(file.partitions)}
    except FeatureStoreError:
        return False
    is_dated = not source.static and bool(view.join_keys)
    return is_dated and all(source.column_in_file(key) in names for key in view.join_keys)


def _proofs(
    view: FeatureView, rows: pa.Table, length_us: int, source: FileSource, root: Path
) -> Iterator[Proof]:
    stamps = rows.column(SINCE).to_numpy()
    keys = rows.select(list(view.join_keys))
    spans = keys.append_column(SINCE, pa.array(stamps - length_us))
    spans = spans.append_column(UNTIL, pa.array(stamps + length_us))
    try:
        events = extract(source, root, Wanted(keys=[spans]))
    except (ExtractTooLargeError, FeatureStoreError, pa.ArrowException):
        return
    before, after = _counts(view, keys, stamps, length_us, events)
    if len(np.unique(after)) < 3:  # noqa: PLR2004 - of counts that are all alike nothing follows
        return
    for name in rows.column_names[len(view.join_keys) : -1]:
        values = rows.column(name).to_numpy()
        shares = float(np.mean(values == after)), float(np.mean(values == before))
        if max(shares) >= AGREES and min(shares) <= DIFFERS:
            yield Proof(
                feature=name,
                source=source.name,
                rows=len(values),
                after=shares[0],
                before=shares[1],
            )


def _counts(
    view: FeatureView, keys: pa.Table, stamps: Ints, length_us: int, events: Extract
) -> tuple[Ints, Ints]:
    """Return how many events there are before each row's stamp, and from it on."""
    codes = Codes()
    found = SourceRows(events, view.join_keys, codes).rows
    wanted = [codes.of(column.to_pylist()) for column in keys.columns]
    counts = []
    for low, high in ((-length_us, 0), (0, length_us)):
        numbers = np.zeros(len(stamps), dtype=np.int64)
        for row, stamp in enumerate(stamps):
            inside = (found.event >= stamp + low) & (found.event < stamp + high)
            for name, code in zip(view.join_keys, wanted, strict=True):
                inside &= found.codes[name] == code[row]
            numbers[row] = inside.sum()
        counts.append(numbers)
    return counts[0], counts[1]
