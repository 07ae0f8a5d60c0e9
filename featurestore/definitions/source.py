"""Where rows come from: Parquet files."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pydantic
from pydantic import AfterValidator, BeforeValidator
from typing_extensions import override

from featurestore.definitions.base import Definition, Document, Duration
from featurestore.definitions.contract import Contract, Fresh, hidden_meaning
from featurestore.definitions.names import ColumnName, check_distinct
from featurestore.errors import shown
from featurestore.time import Ambiguous, Missing, zone

MAX_PATH = 4_096


def _check_path(path: str) -> str:
    if not 1 <= len(path) <= MAX_PATH:
        raise ValueError(f"a path has 1 to {MAX_PATH:,} characters, not {len(path):,}")
    if any(c in path for c in "\0\n\r"):
        raise ValueError("a path cannot hold a NUL or a line break")
    if "://" in path and not path.startswith("file://"):
        raise ValueError(f"{path[:80]!r}: only local files can be read")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError("a path cannot hold a surrogate") from None
    return path.removeprefix("file://")


def _check_zone(name: str) -> str:
    zone(name)
    return name


def _check_mapping(mapping: dict[str, str]) -> dict[str, str]:
    check_distinct(list(mapping.values()), "field_mapping renames two columns to one name:")
    return mapping


def _check_dedup_keys(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        raise ValueError("no column is named; leave it out, and every row is an event of its own")
    check_distinct(names, "column")
    return tuple(sorted(names))


def _check_lateness(lateness: timedelta) -> timedelta:
    if lateness < timedelta(0):
        raise ValueError("lateness cannot be negative")
    return lateness


class FileSource(Definition):
    """Rows in Parquet files.

    Attributes:
        path: One file, a glob (`data/*.parquet`, `data/**/*.parquet`), or a folder, whose Parquet
            files are read with `key=value` folder names as columns (hive partitions). Relative
            paths start at the repository.
        timestamp_field: When the event took place; naive or aware, of any unit. A static source has
            none.
        created_timestamp_column: When the row was written. It decides between rows of one event
            time, and is what `mode="as_served"` and corrections need.
        timezone: Zone in which all naive timestamps of this source are read.
        ambiguous: What to do with a local time that occurs twice (clocks put back): "error",
            "earliest" or "latest".
        missing: What to do with a local time that never occurs (clocks put forward): "error", or
            "forward" to the instant at which the clocks were changed.
        field_mapping: Column in the file -> the name it has here. All other attributes and the
            views use the new names.
        dedup_keys: Columns, in any order, that say which rows are versions of one event, such as
            ["event_id"]. Windows count the greatest of them by (created time, file, row) alone,
            wherever the others stand: a correction may move an event to another time or entity. A
            row with a null in one of these columns is an event of its own. Views with a schema are
            unaffected: which row is the newest of its entity is what they answer anyway. Floats and
            lists cannot be among them.
        lateness: How much later than its neighbours a row may arrive: how far an incremental
            materialization looks back.
        static: Whether this is a lookup table such as airports, whose rows hold for all times. It
            has no times, can be joined in transforms, and is taken as it is when it is read: a row
            that is rewritten changes the past as well.
        contract: Rules that its rows have to keep, as in `[NotNull("user_id")]`;
            `docs/contracts.md` says which there are, and what a broken one does.
    """

    kind: ClassVar[str] = "source"
    semantic_fields: ClassVar[frozenset[str]] = frozenset(
        {
            "path",
            "timestamp_field",
            "created_timestamp_column",
            "timezone",
            "ambiguous",
            "missing",
            "field_mapping",
            "dedup_keys",
            "static",
        }
    )

    path: Annotated[
        str,
        BeforeValidator(lambda p: str(p) if isinstance(p, Path) else p),
        AfterValidator(_check_path),
    ]
    timestamp_field: ColumnName | None = None
    created_timestamp_column: ColumnName | None = None
    timezone: Annotated[str, AfterValidator(_check_zone)] = "UTC"
    ambiguous: Ambiguous = "error"
    missing: Missing = "error"
    field_mapping: Annotated[dict[ColumnName, ColumnName], AfterValidator(_check_mapping)] = (
        pydantic.Field(default_factory=dict)
    )
    dedup_keys: Annotated[Sequence[ColumnName], AfterValidator(_check_dedup_keys)] | None = None
    lateness: Annotated[Duration, AfterValidator(_check_lateness)] = timedelta(0)
    static: bool = False
    contract: Contract = ()

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse columns that cannot be both of what they are declared to be, and missing times."""
        if self.static:
            self._check_static()
            return
        if self.timestamp_field is None:
            raise ValueError("timestamp_field is missing")
        if self.created_timestamp_column == self.timestamp_field:
            raise ValueError("created_timestamp_column is the timestamp_field")
        for name in self.dedup_keys or ():
            if name == self.created_timestamp_column:
                raise ValueError(
                    f"dedup_keys: {shown(name)} is the created_timestamp_column, which says which"
                    " version of an event is the latest and differs between them"
                )
            if name in self.field_mapping and name not in self.field_mapping.values():
                raise ValueError(
                    f"dedup_keys: {shown(name)} is called {shown(self.field_mapping[name])} here:"
                    " field_mapping renames it"
                )

    def column_in_file(self, name: str) -> str:
        """Return what the column called `name` here is called in the file."""
        for in_file, renamed in self.field_mapping.items():
            if renamed == name:
                return in_file
        return name

    @property
    def event_field(self) -> str:
        """The `timestamp_field` of a source that is not static."""
        assert self.timestamp_field is not None  # noqa: S101 - `model_post_init` saw to it
        return self.timestamp_field

    def meaning(self, *, of_events: bool) -> Document:
        """Return all that decides which rows this is, as JSON-ready data.

        Args:
            of_events: Whether rows are counted, which `dedup_keys` matter to.
        """
        meant = {"static": self.static, "dedup_keys": of_events and self.dedup_keys}
        return {key: part for key, part in self.semantics().items() if meant.get(key, True)}

    @override
    def semantics(self) -> Document:
        hidden = hidden_meaning(self.contract)
        return super().semantics() | ({"hidden": hidden} if hidden else {})

    def _check_static(self) -> None:
        if self.dedup_keys:
            raise ValueError("a static source has no events: leave out dedup_keys")
        given = {
            "timestamp_field": self.timestamp_field,
            "created_timestamp_column": self.created_timestamp_column,
            "lateness": self.lateness or None,
        }
        if any(isinstance(rule, Fresh) for rule in self.contract):
            raise ValueError("a static source has no times: no rule can ask how fresh it is")
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"a static source has no times: leave out {name}, or static=True to join it as"
                    " of each row's time"
                )
