"""How much of a spine its features cover, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from featurestore.statistics.documents import spread_document, spread_of
from featurestore.statistics.spread import Spread

SECONDS = "float64"
"""The type of ages, in a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCoverage:
    """How many rows of a spine a feature has something for.

    Attributes:
        found: Rows for which there was a source row: the one that answers, or, of a windowed
            feature, any event in its window (that fulfils its `where`).
        values: Rows with a value that is not null. A latest value is null although a row was found
            in `found - values` rows; an empty window may have a value, such as the count 0.
    """

    found: int
    values: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingRows:
    """Why a view with latest values has no row for some rows of a spine.

    Attributes:
        expired: There was one, older than the view's ttl.
        not_yet: The key has rows, but none that could be seen yet.
        unknown_key: The source has no row of this key.
    """

    expired: int
    not_yet: int
    unknown_key: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewCoverage:
    """How much of a spine one role of a view covers.

    Attributes:
        rows: The spine's rows.
        null_keys: Those without a whole key or a time, which can have no row.
        found: Those for which a row was found; None of a windowed view, whose features differ.
        missing: Why there was none for the others; None of a windowed view.
        age: How old the rows found were at the spine's times, in seconds; None of a windowed view.
        features: Name of the result's column -> its coverage.
    """

    rows: int
    null_keys: int
    found: int | None = None
    missing: MissingRows | None = None
    age: Spread | None = None
    features: Mapping[str, FeatureCoverage]

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "rows": self.rows,
            "null_keys": self.null_keys,
            "found": self.found,
            "missing": None if self.missing is None else asdict(self.missing),
            "age_s": None if self.age is None else spread_document(self.age, SECONDS),
            "features": {name: asdict(found) for name, found in self.features.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "ViewCoverage":
        """Return what `to_document` wrote.

        Raises:
            KeyError, TypeError, ValueError: It did not write this.
        """
        missing, age = document["missing"], document["age_s"]
        features = document["features"]
        return cls(
            rows=document["rows"],
            null_keys=document["null_keys"],
            found=document["found"],
            missing=None if missing is None else MissingRows(**missing),
            age=None if age is None else spread_of(age, SECONDS),
            features={name: FeatureCoverage(**found) for name, found in features.items()},
        )
