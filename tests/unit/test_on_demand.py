"""On-demand feature views: definitions, registry, plans, and what serving gets of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from featurestore.definitions import (
    Definition,
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.errors import (
    DefinitionError,
    EntityValueError,
    NameCollisionError,
    NotFoundError,
    RequestError,
)
from featurestore.online.request_values import request_vector
from featurestore.registry.diff import make_plan
from featurestore.registry.plan import Change
from featurestore.registry.render import render_plan
from featurestore.registry.state import RegistryState
from featurestore.serving.plan import ServingCatalog
from featurestore.store import FeatureStore
from featurestore.types import Bool, Date, Decimal, Float32, Float64, Int8, Int64, String, Timestamp
from tests.unit.projects import project, rows, spine, view, write

USER = Entity(name="user", join_keys={"user_id": Int64})
SPEND = FeatureView(
    name="spend",
    entities=[USER],
    source=FileSource(name="spending", path="spend.parquet", timestamp_field="t"),
    schema=[Field(name="mean", dtype=Float64), Field(name="amount", dtype=Int64)],
)
REQUEST = RequestSource(name="request", schema=[Field(name="paid", dtype=Float64)])


def ratio(*sources: Any, name: str = "ratio", **features: str) -> OnDemandFeatureView:
    return OnDemandFeatureView(
        name=name,
        sources=list(sources) or [SPEND, REQUEST],
        features=features or {"ratio": "paid / mean"},
    )


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ({"x": "paidd + 1"}, "did you mean 'paid'?"),
        ({"x": "spent.mean"}, "did you mean 'spend'?"),
        ({"x": "spend.meen"}, "did you mean 'mean'?"),
        ({"x": "user_id"}, "no input 'user_id'"),
        ({"paid": "mean"}, "the name of the request field 'paid'"),
        ({"x": "1", "X": "2"}, "case is ignored"),
        ({"a:b": "1"}, "':' separates"),
        ({"x": 1}, "both of them text"),
        ({}, "1 to 500 features"),
        ([("x", "1")], "maps names to expressions"),
        ({"x": "mean = TRUE"}, "float64 and bool"),
    ],
)
def test_a_wrong_expression_is_refused_when_it_is_defined(features: Any, words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        OnDemandFeatureView(name="ratio", sources=[SPEND, REQUEST], features=features)
    assert words in str(caught.value)
    assert "'ratio'" in str(caught.value)


def test_an_input_of_two_sources_is_written_with_its_source() -> None:
    request = RequestSource(name="request", schema=[Field(name="amount", dtype=Int8)])
    with pytest.raises(DefinitionError, match=r"write spend\.amount or request\.amount"):
        ratio(SPEND, request, x="amount + 1")
    both = ratio(SPEND, request, x="request.amount", y="spend.amount")
    assert [feature.dtype for feature in both.computed] == [Int8, Int64]


def test_an_on_demand_view_over_another_one_is_refused() -> None:
    with pytest.raises(DefinitionError, match="'ratio' is an on-demand view itself"):
        ratio(ratio(), name="other", x="ratio + 1")


def test_a_request_field_has_a_type_that_expressions_know() -> None:
    with pytest.raises(DefinitionError, match="cannot be decimal128"):
        RequestSource(name="request", schema=[Field(name="paid", dtype=Decimal(5, 2))])


def test_a_view_reads_back_from_its_document_without_being_parsed_again() -> None:
    defined = ratio(x="CASE WHEN spend.amount > 3 THEN paid ELSE mean END", y="paid IS NULL")
    document = json.loads(json.dumps(defined.to_document()))
    document["features"][0]["expression"] = "this is not SQL"
    again = OnDemandFeatureView.from_document(
        document, views={"spend": SPEND}, request_sources={"request": REQUEST}
    )
    assert [f.tree for f in again.computed] == [f.tree for f in defined.computed]
    with pytest.raises(NotFoundError, match="'request', which on-demand feature view 'ratio'"):
        OnDemandFeatureView.from_document(document, views={"spend": SPEND})


# --- plans ---------------------------------------------------------------------------------------


def changes(before: list[Definition], after: list[Definition]) -> dict[str, Change]:
    state = applied(before)
    return {str(c.ref): c for c in make_plan(after, state, full=True).changes}


def applied(definitions: list[Definition]) -> RegistryState:
    from featurestore.registry.state import ObjectRecord, build_state

    plan = make_plan(definitions, RegistryState(project="shop"), full=True)
    records = [
        ObjectRecord(
            kind=c.kind,
            name=c.name,
            version=1,
            generation=c.generation_after,
            deleted=False,
            document=json.loads(json.dumps(c.after)),
        )
        for c in plan.changes
    ]
    return build_state("shop", 1, records)


SERVICE = FeatureService(name="fraud", features=[ratio()])


def test_a_plan_includes_what_a_service_needs_in_order_of_dependency() -> None:
    found = list(changes([], [SERVICE]))
    assert found == [
        "entity user",
        "source spending",
        "request source request",
        "feature view spend",
        "on-demand feature view ratio",
        "feature service fraud",
    ]
    assert changes([SERVICE], [SERVICE]) == {}


@pytest.mark.parametrize(
    ("after", "impact"),
    [
        (ratio(ratio="paid  /  mean"), "metadata"),
        (ratio(ratio="paid / mean", more="paid + 1"), "additive"),
        (ratio(ratio="paid / nullif(mean, 0)"), "breaking"),
        (ratio(other="paid / mean"), "breaking"),
        (
            ratio(
                SPEND,
                RequestSource(
                    name="request",
                    schema=[Field(name="paid", dtype=Float64), Field(name="ip", dtype=String)],
                ),
            ),
            "breaking",
        ),
    ],
)
def test_a_changed_expression_says_whom_it_concerns(
    after: OnDemandFeatureView, impact: str
) -> None:
    service = FeatureService(name="fraud", features=[after])
    found = changes([SERVICE], [service])
    if "on-demand feature view ratio" in found:
        assert found["on-demand feature view ratio"].impact == impact
    else:
        assert found["request source request"].impact == impact


def test_a_plan_shows_the_expression_and_not_its_tree() -> None:
    plan = make_plan([ratio(ratio="mean / paid")], applied([SERVICE]), full=False)
    (change,) = plan.changes
    assert [field.path for field in change.fields] == ["features.ratio.expression"]
    assert '"paid / mean" -> "mean / paid"' in "\n".join(render_plan(plan))
    assert [str(ref) for ref in change.affects] == ["feature service fraud"]


def test_a_new_type_of_an_input_is_checked_against_registered_expressions() -> None:
    fields = [Field(name="mean", dtype=String), Field(name="amount", dtype=Int64)]
    changed = SPEND.model_copy(update={"fields": tuple(fields)})
    with pytest.raises(DefinitionError, match="'ratio' does not fit the new definitions"):
        make_plan([changed], applied([SERVICE]), full=False)
    narrower = [Field(name="mean", dtype=Float32), Field(name="amount", dtype=Int64)]
    changed = SPEND.model_copy(update={"fields": tuple(narrower)})
    make_plan([changed], applied([SERVICE]), full=False)


def test_a_view_and_an_on_demand_view_cannot_share_a_name() -> None:
    with pytest.raises(DefinitionError, match="share a name"):
        make_plan([ratio(name="Spend")], applied([]), full=True)


# --- training and serving ------------------------------------------------------------------------

AGE = RequestSource(name="request", schema=[Field(name="y", dtype=Float64)])


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    write(tmp_path / "data.parquet", rows(2))
    store = project(tmp_path)
    reading = view()
    shifted = ratio(reading, AGE, name="shifted", sum="x + y", is_odd="x % 2 = 1")
    store.apply([FeatureService(name="model", features=[reading, shifted])])
    store.materialize()
    return store


def test_objects_and_names_ask_for_the_same(store: FeatureStore) -> None:
    shifted = store.get_on_demand_feature_view("shifted")
    entities: dict[str, list[Any]] = {"k": [1, 2], "y": [0.5, 0.5]}
    asked: list[Any] = ["model", store.get_feature_service("model"), [view(), shifted]]
    asked += [[view(), shifted.select()], ["reading:x", "shifted:sum", "shifted:is_odd"]]
    found = [store.get_online_features(features, entities).to_dict() for features in asked]
    assert found == [{"k": [1, 2], "x": [1.0, 2.0], "sum": [1.5, 2.5], "is_odd": [True, False]}] * 5
    table = spine(1, 2).append_column("y", pa.array([0.5, 0.5]))
    trained = [store.get_historical_features(table, f).to_arrow() for f in asked]
    assert all(t.equals(trained[0]) for t in trained)
    assert trained[0]["sum"].to_pylist() == [1.5, 2.5]
    assert "sum = x + y" in store.get_historical_features(table, "model").explain()


def test_asking_in_a_wrong_way_fails_alike_offline_and_online(store: FeatureStore) -> None:
    table = spine(1).append_column("y", pa.array([0.5]))
    wrong: list[tuple[Any, type[Exception]]] = [
        (["shifted:summ"], NotFoundError),
        (["shiftd:sum"], NotFoundError),
        (["shifted"], RequestError),
        (["shifted:sum", "shifted:sum"], RequestError),
        ([ratio(view(), AGE, name="other", x="x + y"), "reading:x"], NameCollisionError),
    ]
    for features, error in wrong[:4]:
        with pytest.raises(error):
            store.get_historical_features(table, features)
        with pytest.raises((error, NotFoundError)):
            store.get_online_features(features, {"k": [1], "y": [0.5]})
    with pytest.raises(NameCollisionError):
        store.get_historical_features(table, wrong[4][0])


def test_columns_of_unequal_length_are_refused(store: FeatureStore) -> None:
    with pytest.raises(EntityValueError, match="'k' has 2 values and 'y' has 1"):
        store.get_online_features("model", {"k": [1, 2], "y": [0.5]})


def test_the_catalog_survives_its_way_to_a_worker(store: FeatureStore) -> None:
    catalog = store.serving_catalog()
    again = ServingCatalog.from_json(catalog.to_json())
    assert again.on_demand == catalog.on_demand
    assert again.prepare("model") == catalog.prepare("model")
    assert catalog.prepare("model").request_columns == (("k", "int64"), ("y", "float64"))


def test_a_view_that_is_not_online_takes_its_on_demand_features_along(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(1))
    store = project(tmp_path)
    offline = view(online=False)
    store.apply([FeatureService(name="model", features=[ratio(offline, AGE, sum="x + y")])])
    assert store.serving_catalog().on_demand == {}
    assert store.serving_catalog().services == {}
    with pytest.raises(NotFoundError):
        store.get_online_features(["ratio:sum"], {"k": [1], "y": [0.5]})


# --- request fields ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "column", "expected"),
    [
        ("float64", [1, 2.5, None], [1.0, 2.5, None]),
        ("float64", [2**53], [2.0**53]),
        ("float64", np.array([1, 2], np.int16), [1.0, 2.0]),
        ("float64", pd.Series([1.5, 2.5]), [1.5, 2.5]),
        ("float64", pa.array([1, None], pa.int32()), [1.0, None]),
        ("float32", [0.1], [float(np.float32(0.1))]),
        ("float32", pa.array([0.5, None]), [0.5, None]),
        ("int8", [1.0, None, np.int64(3)], [1, None, 3]),
        ("bool", [True, None], [True, None]),
        ("string", ["a", None], ["a", None]),
        ("string", pa.array(["a", None]), ["a", None]),
        ("timestamp[us, UTC]", [pd.Timestamp(1_999, unit="ns"), None], [1, None]),
        ("timestamp[us, UTC]", np.array(["1970-01-01T00:00:01", "NaT"], "M8[ns]"), [10**6, None]),
        ("timestamp[us, UTC]", pa.array([5, None], pa.timestamp("ms", "UTC")), [5_000, None]),
        ("date32", np.array(["1970-01-03"], "M8[D]"), [2]),
    ],
)
def test_request_fields_are_taken_in_many_forms(dtype: str, column: Any, expected: Any) -> None:
    values, valid = request_vector(dtype, column, field="x")
    found = values.tolist()
    if valid is not None:
        found = [v if ok else None for v, ok in zip(found, valid.tolist(), strict=True)]
    assert found == expected


@pytest.mark.parametrize(
    ("dtype", "column", "row"),
    [
        ("float64", [1.0, "2"], 1),
        ("float64", [1.0, True], 1),
        ("float64", [2**53 + 1], 0),
        ("float64", np.array([0, 2**60]), 1),
        ("float64", np.array(["a"]), 0),
        ("float64", 1.5, None),
        ("float32", [1.0, 1e300], 1),
        ("float32", [2**24 + 1], 0),
        ("int8", [1, 128], 1),
        ("bool", [1], 0),
        ("string", ["a", 1], 1),
        ("timestamp[us, UTC]", ["2024-01-01"], 0),
        ("timestamp[us, UTC]", [None, 5], 1),
        ("timestamp[us, UTC]", np.array([5]), 0),
    ],
)
def test_a_value_of_the_wrong_type_names_field_and_row(
    dtype: str, column: Any, row: int | None
) -> None:
    with pytest.raises(EntityValueError) as caught:
        request_vector(dtype, column, field="x")
    assert (caught.value.field, caught.value.row) == ("x", row)
    assert "'x'" in caught.value.message


def test_nan_is_a_number_in_a_list_and_missing_in_a_nullable_column() -> None:
    values, valid = request_vector("float64", [float("nan")], field="x")
    assert np.isnan(values[0])
    assert valid is None
    _, valid = request_vector("timestamp[us, UTC]", [pd.NaT], field="x")
    assert valid is not None
    assert valid.tolist() == [False]


def test_request_sources_list_their_types() -> None:
    fields = [
        Field(name="a", dtype=Bool),
        Field(name="b", dtype=Date),
        Field(name="c", dtype=Timestamp),
    ]
    source = RequestSource(name="request", schema=fields)
    assert source.schema_types == {"a": Bool, "b": Date, "c": Timestamp}
    with pytest.raises(DefinitionError, match="case is ignored"):
        RequestSource(name="request", schema=[fields[0], Field(name="A", dtype=Int8)])


def test_a_lookup_takes_the_keys_of_all_sources_whichever_features_are_asked_for(
    store: FeatureStore,
) -> None:
    only_request = ratio(view(), AGE, name="plain", twice="2 * y")
    store.apply([only_request])
    found = store.get_online_features(["plain:twice"], {"k": [1, 2], "y": [1.5, None]})
    assert found.to_dict() == {"k": [1, 2], "twice": [3.0, None]}
    with pytest.raises(EntityValueError, match="join key 'k' is missing"):
        store.get_online_features(["plain:twice"], {"y": [1.5]})
    nobody = store.get_online_features(["plain:twice"], {"k": [], "y": []})
    assert nobody.to_dict() == {"k": [], "twice": []}
