"""Sources against definitions: are the files there, with the columns and types declared?"""

from collections.abc import Iterable
from pathlib import Path

from featurestore.contracts.subject import check_contract, owners_of
from featurestore.definitions import FeatureView
from featurestore.offline.column_types import dedup_types
from featurestore.offline.scan import open_scan


def check_sources(views: Iterable[FeatureView], *, root: Path) -> None:
    """Open every view's source and check its columns; no row is read.

    Raises:
        SourceError: Files are missing or broken.
        SourceSchemaError: A column is missing or cannot be widened to its declared type, or cannot
            tell events apart as `dedup_keys` says.
        DefinitionError: A rule of a contract does not go with the types of its columns.
    """
    for view in views:
        scan = open_scan(view, view.feature_names, root)
        dedup_types(view.source, scan.files)
        for owner in owners_of([view]):
            check_contract(owner, root)
