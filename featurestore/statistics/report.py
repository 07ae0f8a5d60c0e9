"""What a profile says, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from featurestore.errors import RequestError
from featurestore.statistics.coverage import ViewCoverage
from featurestore.statistics.documents import spread_document, spread_of
from featurestore.statistics.spread import Histogram, Quantiles, Spread
from featurestore.statistics.values import from_json, to_json

if TYPE_CHECKING:
    from featurestore.statistics.distinct import DistinctSummary

FORMAT: Final = 1
"""Rises when a document changes its form."""
LENGTH: Final = "int32"
"""The type of lengths, in a document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """How many distinct values a column has, NaN among them, null not.

    Attributes:
        count: The number, exact or estimated.
        error: The relative standard error of an estimate; 0 if the number is exact.
    """

    count: int
    error: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether this is no estimate."""
        return self.error == 0

    @classmethod
    def of(cls, summary: "DistinctSummary", *, more: int = 0) -> "Distinct":
        """Return what a summary says, and `more` values that are not in it."""
        return cls(count=summary.count + more, error=summary.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopValues:
    """The most frequent values of a column of text, bytes or truth values.

    Attributes:
        counts: Value -> how often it occurs, most frequent first. Long ones are cut, and then end
            with "..."; two that begin alike are two pairs.
        error: How much too small each count may be, never too great; a value that is not listed
            although there is room occurs no more often. 0 if all counts are exact.
    """

    counts: tuple[tuple[Any, int], ...]
    error: int = 0

    @property
    def exact(self) -> bool:
        """Whether the counts are exact."""
        return self.error == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnProfile:
    """What is told of a column; what does not apply to its type is None.

    Attributes:
        name: The column's name.
        type: Its type, as `types.type_name` writes it.
        rows: Its rows.
        nulls: Those without a value.
        nan: Those with NaN, of floats.
        infinities: Those with minus and with plus infinity, of floats.
        distinct: Distinct values.
        values: How the values are spread.
        lengths: How long they are: text in characters, bytes in bytes, lists in elements.
        top: The most frequent values.
    """

    name: str
    type: str
    rows: int
    nulls: int
    nan: int | None = None
    infinities: tuple[int, int] | None = None
    distinct: Distinct | None = None
    values: Spread = field(default_factory=Spread)
    lengths: Spread | None = None
    top: TopValues | None = None

    @property
    def min(self) -> Any:
        """The smallest value."""
        return self.values.min

    @property
    def max(self) -> Any:
        """The greatest value."""
        return self.values.max

    @property
    def mean(self) -> Any:
        """The mean."""
        return self.values.mean

    @property
    def stddev(self) -> float | None:
        """The sample standard deviation."""
        return self.values.stddev

    @property
    def quantiles(self) -> Quantiles | None:
        """Shares and values."""
        return self.values.quantiles

    @property
    def histogram(self) -> Histogram | None:
        """Counts of the finite values."""
        return self.values.histogram

    def to_svg(self) -> str:
        """Return the histogram as an SVG document; of text the most frequent values, or lengths."""
        from featurestore.statistics.svg import column_svg

        return column_svg(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Statistics of a table.

    Attributes:
        rows: Its rows.
        columns: Name -> what is told of the column, in order.
        coverage: Of a training set: view, under the name of its role -> how much of the spine it
            covers. None unless that was asked for.
    """

    rows: int
    columns: Mapping[str, ColumnProfile]
    coverage: Mapping[str, ViewCoverage] | None = None

    @property
    def edges(self) -> dict[str, tuple[Any, ...]]:
        """Column -> its histogram's edges: a second profile with these can be compared."""
        known = {name: column.histogram for name, column in self.columns.items()}
        return {name: found.edges for name, found in known.items() if found is not None}

    def __str__(self) -> str:
        from featurestore.statistics.text import profile_text

        return profile_text(self)

    def _repr_html_(self) -> str:
        from featurestore.statistics.html import profile_html

        return profile_html(self)

    def to_svg(self) -> str:
        """Return the charts of all columns as one SVG document."""
        from featurestore.statistics.svg import profile_svg

        return profile_svg(self)

    def to_document(self) -> dict[str, Any]:
        """Return the profile as JSON, without NaN or infinities; None where nothing is to say."""
        columns = [column_document(column) for column in self.columns.values()]
        coverage = self.coverage
        return {
            "format": FORMAT,
            "rows": self.rows,
            "columns": columns,
            "coverage": None
            if coverage is None
            else {view: covered.to_document() for view, covered in coverage.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Profile":
        """Return the profile that `to_document` wrote.

        Raises:
            RequestError: It is not such a document, or a newer version wrote it.
        """
        if document.get("format") != FORMAT:
            raise RequestError(
                f"A profile of format {str(document.get('format'))[:20]!r} cannot be read.",
                hint=f"this version reads format {FORMAT}",
            )
        try:
            columns = [column_of(each) for each in document["columns"]]
            coverage = document["coverage"]
            return cls(
                rows=document["rows"],
                columns={each.name: each for each in columns},
                coverage=None
                if coverage is None
                else {view: ViewCoverage.from_document(of) for view, of in coverage.items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RequestError(f"This is not a profile: {str(error)[:200]}.") from None


def column_document(column: ColumnProfile) -> dict[str, Any]:
    """Return a column's part of a profile's document."""
    distinct, top, infinities = column.distinct, column.top, column.infinities
    return {
        "name": column.name,
        "type": column.type,
        "rows": column.rows,
        "nulls": column.nulls,
        "nan": column.nan,
        "infinities": None if infinities is None else list(infinities),
        "distinct": None
        if distinct is None
        else {"count": distinct.count, "exact": distinct.exact, "error": distinct.error},
        **spread_document(column.values, column.type),
        "lengths": None if column.lengths is None else spread_document(column.lengths, LENGTH),
        "top": None
        if top is None
        else {
            "values": [[to_json(value, column.type), count] for value, count in top.counts],
            "exact": top.exact,
            "error": top.error,
        },
    }


def column_of(document: Mapping[str, Any]) -> ColumnProfile:
    """Return the column that `column_document` wrote.

    Raises:
        KeyError, TypeError, ValueError: It did not write this.
    """
    dtype = document["type"]
    distinct, top, lengths = document["distinct"], document["top"], document["lengths"]
    infinities = document["infinities"]
    return ColumnProfile(
        name=document["name"],
        type=dtype,
        rows=document["rows"],
        nulls=document["nulls"],
        nan=document["nan"],
        infinities=None if infinities is None else (infinities[0], infinities[1]),
        distinct=None
        if distinct is None
        else Distinct(count=distinct["count"], error=distinct["error"]),
        values=spread_of(document, dtype),
        lengths=None if lengths is None else spread_of(lengths, LENGTH),
        top=None
        if top is None
        else TopValues(
            counts=tuple((from_json(value, dtype), count) for value, count in top["values"]),
            error=top["error"],
        ),
    )
