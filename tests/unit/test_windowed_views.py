"""Views with aggregations: what they are called, written as, and refused for."""

import pyarrow as pa
import pytest

from featurestore.definitions import (
    Aggregation,
    Entity,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
)
from featurestore.errors import DefinitionError, RequestError
from featurestore.registry.state import RegistryState
from featurestore.training.query import resolve
from featurestore.types import Float64, Int64, String

USER = Entity(name="user", join_keys={"user_id": Int64})
SOURCE = FileSource(name="payments", path="payments.parquet", timestamp_field="at")


def view(*aggregations: Aggregation) -> FeatureView:
    return FeatureView(name="spend", entities=[USER], source=SOURCE, aggregations=aggregations)


def test_features_are_named_by_column_function_and_window_in_that_order() -> None:
    found = view(
        Aggregation("amount", ["sum", "p95"], windows=["60m", "24h", None]),
        Aggregation("*", ["count"], windows=["90s"]),
        Aggregation("amount", ["last_2"], windows=["7d"], where="amount > 0", name="paid"),
    )
    assert found.feature_names == (
        "amount_sum_1h",
        "amount_sum_1d",
        "amount_sum_all",
        "amount_p95_1h",
        "amount_p95_1d",
        "amount_p95_all",
        "count_90s",
        "paid_last_2_7d",
    )


def test_a_document_lists_the_features_once_their_types_are_known_and_reads_back() -> None:
    unknown = view(Aggregation("amount", ["sum", "mean"], windows=["1h"]))
    assert not unknown.is_resolved
    assert unknown.to_document()["schema"] == []
    known = unknown.with_column_types({"amount": pa.int32()})
    assert known.is_resolved
    document = known.to_document()
    assert [(f["name"], f["dtype"]) for f in document["schema"]] == [
        ("amount_sum_1h", "int64"),
        ("amount_mean_1h", "float64"),
    ]
    again = FeatureView.from_document(
        document, entities={"user": USER}, sources={"payments": SOURCE}
    )
    assert again == known
    assert again.meaning() == known.meaning()


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (Aggregation("amount", ["sum"], windows=["2h"], dtype=Float64), False),
        (Aggregation("amount", ["sum"], windows=["1h"], dtype=Float64, closed="both"), False),
        (Aggregation("amount", ["sum"], windows=["1h"], dtype=Float64, empty=0), False),
        (Aggregation("amount", ["sum"], windows=["60m"], dtype=Float64), True),
    ],
)
def test_what_changes_a_value_changes_the_meaning(changed: Aggregation, same: bool) -> None:  # noqa: FBT001
    before = view(Aggregation("amount", ["sum"], windows=["1h"], dtype=Float64))
    assert (view(changed).meaning() == before.meaning()) is same


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Aggregation("amount", ["summ"], windows=["1h"]), "did you mean 'sum'"),
        (lambda: Aggregation("amount", ["last_0"], windows=["1h"]), "no aggregate function"),
        (lambda: Aggregation("amount", "sum", windows=["1h"]), "list of names"),
        (lambda: Aggregation("amount", ["sum"], windows="1h"), "windows is a list"),
        (lambda: Aggregation("amount", ["sum"], windows=["0s"]), "longer than zero"),
        (lambda: Aggregation("amount", ["sum"], windows=["1h", "60m"]), "window"),
        (lambda: Aggregation("amount", [], windows=["1h"]), "at least one function"),
        (lambda: Aggregation("*", ["sum"], windows=["1h"]), "can only be counted"),
        (lambda: Aggregation("x", ["sum"], windows=["1h"], where="x > 0"), "needs a name="),
        (lambda: Aggregation("x", ["sum"], ["1h"], where="x >", name="y"), "where ="),
        (lambda: Aggregation("x", ["sum"], ["1h"], where="1 = 1", name="y"), "names no column"),
        (lambda: Aggregation("x", ["sum"], ["1h"], where="t.x > 1", name="y"), "write 'x' alone"),
        (lambda: Aggregation("x", ["sum"], ["1h"], where="now() > x", name="y"), "where ="),
        (lambda: Aggregation("x", ["sum"], ["1h"], dtype=String), "takes numbers, not string"),
        (lambda: Aggregation("x", ["count"], ["1h"], empty="none"), "empty='none'"),
        (
            lambda: FeatureView(
                name="spend",
                source=SOURCE,
                schema=[Field(name="x", dtype=Int64)],
                aggregations=[Aggregation("x", ["sum"], ["1h"])],
            ),
            "not both",
        ),
        (lambda: FeatureView(name="spend", source=SOURCE), "1 to 2,000 features"),
    ],
)
def test_what_cannot_be_computed_is_refused_when_it_is_defined(make: "object", reason: str) -> None:
    assert callable(make)
    with pytest.raises(DefinitionError, match=reason):
        make()


def test_an_expression_over_a_window_of_unknown_type_has_to_be_applied_first() -> None:
    spend = view(Aggregation("amount", ["sum"], windows=["1h"]))
    ratio = OnDemandFeatureView(name="more", sources=[spend], features={"x": "amount_sum_1h + 1.5"})
    assert not ratio.is_resolved
    state = RegistryState(project="shop")
    with pytest.raises(RequestError, match="'more' computes from windows"):
        resolve([ratio], state, full_feature_names=False)
    typed = view(Aggregation("amount", ["sum"], windows=["1h"], dtype=Float64))
    known = OnDemandFeatureView(name="more", sources=[typed], features={"x": "amount_sum_1h + 1.5"})
    assert resolve([known], state, full_feature_names=False).names == ("x",)
