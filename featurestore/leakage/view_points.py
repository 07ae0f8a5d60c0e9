"""The spine rows of a test, and what each of them sees."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from featurestore.leakage.sight import Mask, Read, Sight, Sources
from featurestore.leakage.source_rows import Codes, Rows, SourceRows
from featurestore.leakage.subject import Subject, key_table
from featurestore.offline.engine import Mode
from featurestore.offline.timeline import Ints


class ViewPoints:
    """What every spine row sees through every read.

    Args:
        subject: The features.
        spine: The spine, n rows.
        times: Its times in microseconds.
        rows: The rows of every source, coded with `codes`.
        codes: The codes.
        mode: What counts as known.
    """

    def __init__(
        self,
        subject: Subject,
        spine: pa.Table,
        *,
        times: pa.Array,
        rows: Mapping[str, SourceRows],
        codes: Codes,
        mode: Mode,
    ) -> None:
        self.times: list[int | None] = times.to_pylist()
        self._mode = mode
        self.sources = {
            name: Sources(
                view=role.view,
                rows={s.name: rows[s.name] for s in (role.view.source, *role.view.joins)},
            )
            for name, role in subject.roles.items()
        }
        self._keys = {
            name: _key_tuples(key_table(role, spine), codes, spine.num_rows)
            for name, role in subject.roles.items()
        }
        self._groups = {name: _groups(sources) for name, sources in self.sources.items()}
        self._sights: dict[tuple[int, Read], Sight] = {}

    def key(self, point: int, role: str) -> tuple[int, ...]:
        """Return the numbers of a spine row's join keys."""
        return self._keys[role][point]

    def sight(self, point: int, read: Read) -> Sight:
        """Return what a spine row sees through a read."""
        if (point, read) not in self._sights:
            key = self.key(point, read.role)
            nothing: Ints = np.empty(0, dtype=np.int64)
            self._sights[point, read] = Sight(
                self.sources[read.role],
                key=key,
                q_us=self.times[point],
                span=read.span,
                mode=self._mode,
                group=self._groups[read.role].get(key, nothing),
            )
        return self._sights[point, read]

    def group(self, point: int, role: str) -> Ints:
        """Return the numbers of the rows of a spine row's key, whatever their times."""
        return self._groups[role].get(self.key(point, role), np.empty(0, dtype=np.int64))

    def seen(self, points: Sequence[int], reads: Iterable[Read], source: str, rows: Rows) -> Mask:
        """Whether any of some spine rows may see each of a source's rows through any read."""
        found = np.zeros(len(rows), dtype=bool)
        for read in reads:
            sources = self.sources[read.role]
            if source not in sources.rows:
                continue
            for point in points:
                found |= self.sight(point, read).sees(source, rows)
        return found


def _key_tuples(keys: pa.Table, codes: Codes, count: int) -> list[tuple[int, ...]]:
    columns = [codes.of(column.to_pylist()).tolist() for column in keys.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * count


def _groups(sources: Sources) -> dict[tuple[int, ...], Ints]:
    found: dict[tuple[int, ...], list[int]] = {}
    for row, key in enumerate(sources.own.rows.tuples(list(sources.view.join_keys))):
        found.setdefault(key, []).append(row)
    return {key: np.array(rows, dtype=np.int64) for key, rows in found.items()}
