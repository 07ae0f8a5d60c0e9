"""On-demand views of a Python function: definitions, plans, training sets, lookups."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from featurestore.definitions import FeatureService, Field, OnDemandFeatureView, RequestSource
from featurestore.errors import (
    ConfigError,
    DefinitionError,
    FunctionCallError,
    FunctionChangedError,
    FunctionLoadError,
    RequestError,
)
from featurestore.registry.render import render_plan
from featurestore.serving.plan import ServingCatalog
from featurestore.store import FeatureStore
from featurestore.types import Decimal, Float64, Int64, String
from tests.unit import scoring
from tests.unit.projects import project, rows, says, spine, view, write

MODULE = """
import pyarrow as pa
import pyarrow.compute as pc

def score(batch: pa.RecordBatch) -> pa.RecordBatch:
    ratio = pc.divide(batch["paid"], batch["x"])
    return pa.record_batch({"ratio": ratio, "is_high": pc.greater(ratio, 1.0)})
"""
REQUEST = RequestSource(name="request", schema=[Field(name="paid", dtype=Float64)])
SCHEMA = [Field(name="ratio", dtype=Float64), Field(name="is_high", dtype="bool")]


def scored(**more: Any) -> OnDemandFeatureView:
    defaults: dict[str, Any] = {
        "name": "scored",
        "sources": [view(), REQUEST],
        "function": "scoring:score",
        "schema": SCHEMA,
    }
    return OnDemandFeatureView(**(defaults | more))


SERVICE = FeatureService(name="model", features=[scored()])


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    write(tmp_path / "data.parquet", rows(2))
    (tmp_path / "functions").mkdir()
    rewrite(tmp_path)
    return project(tmp_path, functions="functions")


def rewrite(root: Path, old: str = "", new: str = "") -> None:
    (root / "functions/scoring.py").write_text(MODULE.replace(old, new) if old else MODULE)


def paying(*keys: int, paid: float = 3.0) -> pa.Table:
    return spine(*keys).append_column("paid", pa.array([paid] * len(keys)))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no reference": ({"function": "scoring.score"}, "'package.module:name'"),
    "a module of Python's": ({"function": "json:loads"}, "Python's own"),
    "no function": ({"function": 1}, "function"),
    "code": ({"function": lambda batch: batch}, "not at the top"),
    "no schema": ({"schema": []}, "1 to 500 fields"),
    "no function for a schema": (
        {"function": None, "features": {"a": "x"}},
        "goes with a function",
    ),
    "nothing at all": ({"function": None, "schema": []}, "or a function and a schema"),
    "both": ({"features": {"a": "x"}}, "not both"),
    "a name twice": (
        {"schema": [SCHEMA[0], Field(name="Ratio", dtype=Float64)]},
        "case is ignored",
    ),
    "a field's name": ({"schema": [Field(name="paid", dtype=Float64)]}, "request field 'paid'"),
    "a struct": (
        {"schema": [Field(name="a", dtype=pa.struct([("b", Int64)]))]},
        "cannot be struct",
    ),
    "a hash that is none": ({"function": {"path": "scoring:score", "sha256": "../x"}}, "sha256"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_definition_is_refused_by_name(case: str) -> None:
    more, reason = WRONG[case]
    with pytest.raises(DefinitionError) as caught:
        scored(**more)
    assert reason in str(caught.value)
    assert "'scored'" in str(caught.value)


def test_of_a_function_only_its_name_is_kept() -> None:
    defined = scored(function=scoring.ratio, schema=SCHEMA[:1])
    assert defined.to_document()["function"] == {"path": "tests.unit.scoring:ratio", "sha256": ""}
    assert "features" not in defined.to_document()


def test_a_view_of_expressions_has_no_word_of_functions() -> None:
    plain = OnDemandFeatureView(name="plain", sources=[REQUEST], features={"twice": "2 * paid"})
    assert {"function", "schema"} & plain.to_document().keys() == set()


def test_inputs_that_clash_are_named_after_their_sources() -> None:
    clash = RequestSource(name="asked", schema=[Field(name="x", dtype=Float64)])
    defined = scored(sources=[view(features={"x": Float64, "y": String}), clash])
    assert list(defined.columns) == ["reading.x", "y", "asked.x"]
    three = view(features={"x": Float64, "asked.x": String})
    with pytest.raises(DefinitionError, match="input"):
        scored(sources=[three, clash])


def test_outputs_depend_on_all_inputs_unless_sources_are_narrowed() -> None:
    wide = view(features={"x": Float64, "y": String})
    defined = scored(sources=[wide, REQUEST])
    assert [str(i) for i in defined.inputs_of(["ratio"])] == [
        "reading.x",
        "reading.y",
        "request.paid",
    ]
    narrow = scored(sources=[wide[["x"]], REQUEST])
    assert [str(i) for i in narrow.inputs_of(["ratio"])] == ["reading.x", "request.paid"]


def test_the_hash_of_the_module_is_registered_and_nothing_of_it(store: FeatureStore) -> None:
    store.apply([SERVICE])
    found = store.get_on_demand_feature_view("scored")
    assert found.reference is not None
    assert len(found.reference.sha256) == 64
    text = json.dumps(found.to_document())
    assert "scoring:score" in text
    assert "pc.divide" not in text
    assert store.plan([SERVICE]).is_empty
    assert store.plan([found]).is_empty


def test_training_and_lookups_yield_the_same(store: FeatureStore) -> None:
    store.apply([SERVICE])
    job = store.get_historical_features(paying(2, 1, 9), "model")
    assert "ratio = scoring:score(x, paid)" in job.explain()
    trained = job.to_arrow()
    assert trained["ratio"].to_pylist() == [1.5, 3.0, None]
    assert trained["is_high"].to_pylist() == [True, True, None]
    store.materialize()
    asked: dict[str, Any] = {"k": [2, 1, 9], "paid": [3.0, 3.0, 3.0]}
    served = store.get_online_features("model", asked).to_arrow()
    assert served.select(["ratio", "is_high"]).equals(trained.select(["ratio", "is_high"]))


def test_chunks_of_a_training_set_number_their_rows(store: FeatureStore) -> None:
    rewrite(store.config.root, "    ratio =", "    assert batch.num_rows == 1\n    ratio =")
    store.apply([SERVICE])
    with pytest.raises(FunctionCallError, match="rows 0 to 2: AssertionError"):
        store.get_historical_features(paying(1, 2, 1), "model").to_arrow()


def test_a_function_that_looks_at_other_rows_makes_no_training_set(store: FeatureStore) -> None:
    rewrite(store.config.root, 'batch["paid"], batch["x"]', 'batch["paid"], pc.mean(batch["x"])')
    store.apply([SERVICE])
    with pytest.raises(FunctionCallError, match="not row-wise"):
        store.get_historical_features(paying(1, 2), "model").to_arrow()


def test_a_changed_module_is_refused_until_it_is_applied(store: FeatureStore) -> None:
    store.apply([SERVICE])
    store.materialize()
    (before,) = [v for v in store.list_on_demand_feature_views() if v.reference]
    rewrite(store.config.root, "1.0", "2.0")
    with FeatureStore(store.config.root, config=store.config) as fresh:
        fresh.__dict__["online_store"] = store.online_store
        with pytest.raises(FunctionChangedError) as caught:
            fresh.get_historical_features(paying(1), "model")
        assert says(caught.value, "scoring.py", caught.value.expected, caught.value.found)
        with pytest.raises(FunctionChangedError):
            fresh.get_online_features("model", {"k": [1], "paid": [1.5]})
        plan = fresh.plan([SERVICE])
        (change,) = plan.changes
        assert change.impact == "breaking"
        assert [field.path for field in change.fields] == ["function.sha256"]
        text = "\n".join(render_plan(plan))
        assert before.reference is not None
        assert before.reference.sha256 in text
        assert "used by feature service model" in text
        fresh.apply(plan)
        served = fresh.get_online_features("model", {"k": [1], "paid": [1.5]})
        assert served.to_dict()["is_high"] == [False]


def test_a_registry_alone_makes_nobody_run_code(store: FeatureStore) -> None:
    store.apply([SERVICE])
    store.materialize()
    config = {"project": "plant", "clock": str(store.clock), "online_store": "memory"}
    with FeatureStore(store.config.root, config=config) as stranger:
        stranger.__dict__["online_store"] = store.online_store
        assert stranger.get_on_demand_feature_view("scored").reference is not None
        for ask in (
            lambda: stranger.get_historical_features(paying(1), "model"),
            lambda: stranger.get_online_features("model", {"k": [1], "paid": [1.5]}),
            lambda: stranger.plan([SERVICE]),
        ):
            with pytest.raises(FunctionLoadError, match="names no folder of functions"):
                ask()
        known = stranger.get_historical_features(paying(1), ["reading:x"]).to_arrow()
        assert known["x"].to_pylist() == [1.0]


def test_a_function_that_was_not_applied_does_not_run(store: FeatureStore) -> None:
    store.apply([view()])
    with pytest.raises(RequestError, match="was not applied"):
        store.get_historical_features(paying(1), [scored()])


def test_a_plan_that_cannot_load_a_function_says_why(store: FeatureStore) -> None:
    with pytest.raises(FunctionLoadError, match=r"no .*functions/nothing\.py"):
        store.plan([scored(function="nothing:score")])
    rewrite(store.config.root, "def score", "raise OSError('no disk')\ndef score")
    with pytest.raises(FunctionLoadError, match="OSError: no disk"):
        store.plan([scored()])


def test_what_a_function_needs_more_breaks_callers_and_what_it_returns_more_does_not(
    store: FeatureStore,
) -> None:
    store.apply([SERVICE])
    more = Field(name="third", dtype=Decimal(9, 2))
    (added,) = store.plan([scored(schema=[*SCHEMA, more])]).changes
    assert added.impact == "additive"
    (retyped,) = store.plan([scored(schema=[SCHEMA[0]])]).changes
    assert retyped.impact == "breaking"
    (described,) = store.plan([scored(description="of risk")]).changes
    assert described.impact == "metadata"


def test_a_catalog_keeps_functions(store: FeatureStore) -> None:
    store.apply([SERVICE])
    catalog = store.serving_catalog()
    assert ServingCatalog.from_json(catalog.to_json()) == catalog
    plan = catalog.prepare("model")
    assert plan.request_columns == (("k", "int64"), ("paid", "float64"))


def test_one_call_yields_all_the_features_of_a_view(store: FeatureStore) -> None:
    line = "    import tempfile; tempfile.mkstemp(prefix='call', dir=__file__[:-10])"
    rewrite(store.config.root, "    ratio =", f"{line}\n    ratio =")
    store.apply([SERVICE])
    store.materialize()
    store.get_online_features("model", {"k": [1], "paid": [1.5]})
    assert len(list((store.config.root / "functions").glob("call*"))) == 1


def test_definitions_may_import_functions_from_their_root(tmp_path: Path) -> None:
    write(tmp_path / "data.parquet", rows(2))
    (tmp_path / "functions").mkdir()
    rewrite(tmp_path)
    (tmp_path / "feature_store.yaml").write_text("project: plant\nfunctions: functions\n")
    (tmp_path / "features.py").write_text(
        "from featurestore import *\nfrom featurestore.types import *\nfrom scoring import score\n"
        "request = RequestSource(name='request', schema=[Field(name='paid', dtype=Float64),"
        " Field(name='x', dtype=Float64)])\n"
        "scored = OnDemandFeatureView(name='scored', sources=[request], function=score,"
        " schema=[Field(name='ratio', dtype=Float64), Field(name='is_high', dtype=Bool)])\n"
    )
    with FeatureStore(tmp_path) as store:
        store.apply()
        (found,) = store.list_on_demand_feature_views()
        assert found.reference is not None
        assert found.reference.path == "scoring:score"


def test_roots_are_settings_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project(tmp_path).functions.roots == ()
    assert project(tmp_path, functions={"roots": ["a", "/b"]}).functions.roots == (
        tmp_path / "a",
        Path("/b"),
    )
    monkeypatch.setenv("FEATURESTORE_FUNCTIONS__ROOTS", "c,d")
    assert project(tmp_path).functions.roots == (tmp_path / "c", tmp_path / "d")
    with pytest.raises(ConfigError, match="functions"):
        project(tmp_path, functions={"root": "a"})
