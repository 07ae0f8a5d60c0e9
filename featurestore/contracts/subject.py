"""What is checked: the rules of a source or view, and a scan of the rows that they are about."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pyarrow as pa

from featurestore.definitions import FeatureView, FileSource
from featurestore.definitions.contract import Rule
from featurestore.offline.hidden_rows import check_rules, view_column_type
from featurestore.offline.scan import SourceScan, only_files, open_columns, open_scan
from featurestore.offline.view_files import ViewFiles

Kind = Literal["source", "feature view"]
Owner = FileSource | FeatureView
"""What may have a contract."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Something with a contract, opened.

    Attributes:
        kind: What it is.
        name: Its name.
        rules: Its rules.
        scan: The rows that they are about: of a source all, of a view those behind its transform.
        aliases: Column -> what the scan calls it.
        types: Column -> its type; times are `timestamp[us, UTC]`.
    """

    kind: Kind
    name: str
    rules: tuple[Rule, ...]
    scan: SourceScan
    aliases: Mapping[str, str] = field(init=False)
    types: Mapping[str, pa.DataType] = field(init=False)

    def __post_init__(self) -> None:
        scan = self.scan
        times = tuple(time for time in (scan.event, scan.created) if time is not None)
        columns = (*scan.keys, *times, *scan.features)
        object.__setattr__(self, "aliases", {c.name: c.alias for c in reversed(columns)})
        object.__setattr__(self, "types", {c.name: c.dtype for c in reversed(columns)})

    def only(self, paths: Collection[str]) -> "Subject":
        """Return the same of some of the files, and of what is joined."""
        return replace(self, scan=only_files(self.scan, paths))


def source_subject(source: FileSource, root: Path) -> Subject:
    """Open a source for its rules.

    Raises:
        SourceError, SourceSchemaError: See `open_columns`.
    """
    times = (source.timestamp_field, source.created_timestamp_column)
    named = dict.fromkeys(name for rule in source.contract for name in rule.columns)
    names = [name for name in named if name not in times]
    scan = open_columns(source, names, root)
    return Subject(kind="source", name=source.name, rules=tuple(source.contract), scan=scan)


def view_subject(view: FeatureView, root: Path) -> Subject:
    """Open a view for its rules: rows that these leave out are there, others' are not.

    Raises:
        SourceError, SourceSchemaError: See `open_scan`.
    """
    named = {name for rule in view.contract for name in rule.columns}
    every = view.model_copy(update={"contract": ()})
    if view.aggregations:
        made = {f.name: f.row_columns for f in view.window_features}
        features = [name for name, columns in made.items() if not named.isdisjoint(columns)]
    else:
        features = [name for name in view.feature_names if name in named]
    scan = open_scan(every, features, root)
    return Subject(kind="feature view", name=view.name, rules=tuple(view.contract), scan=scan)


def check_contract(owner: Owner, root: Path) -> None:
    """Refuse rules that do not go with the columns of a source's files, or with a view's.

    Raises:
        DefinitionError: It names the rule.
        SourceError, SourceSchemaError: The source has no such column, or cannot be read.
    """
    if not owner.contract:
        return
    if isinstance(owner, FeatureView):
        files = ViewFiles(owner, root)
        check_rules(owner, owner.contract, lambda name: view_column_type(owner, files, name))
    else:
        scan = source_subject(owner, root)
        known = scan.types
        check_rules(owner, owner.contract, lambda name: known[name])


def owners_of(views: Iterable[FeatureView]) -> list[Owner]:
    """Return the sources of some views, joined ones too, and the views; each once."""
    listed = list(views)
    sources = {s.name: s for view in listed for s in (view.source, *view.joins)}
    return [*sources.values(), *{view.name: view for view in listed}.values()]
