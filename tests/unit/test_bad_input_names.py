"""Hostile names: refused with the rule they break, or carried through everything unharmed."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pytest

from featurestore.definitions import Definition, Entity, FeatureService, Field, FileSource
from featurestore.errors import (
    ConfigError,
    DefinitionError,
    EntityValueError,
    FeatureStoreError,
    NameCollisionError,
    NotFoundError,
    RequestError,
    SourceError,
)
from featurestore.store import FeatureStore
from featurestore.types import Decimal, Float64, Int64, List, String
from tests.unit.projects import (
    FILE,
    project,
    rows,
    says,
    source,
    spine,
    view,
    write,
)

HOSTILE = {
    "empty": "",
    "space": " ",
    "quote": "it's",
    "double quote": '"',
    "comment": "x;-- DROP TABLE x",
    "path": "../x",
    "NUL": "a\0b",
    "newline": "a\nb",
    "delete": "a\x7f",
    "control": "a\x85",
    "emoji": "🛫",
    "right to left": "\u202eabc",
    "byte order mark": "\ufeff",
    "glob": "*?[x]",
    "braces": "{a}",
    "colon": "a:b",
    "surrogate": "\ud800",
    "long": "x" * 10_000,
    "keyword": "select",
    "two underscores": "a__b",
    "digit": "1a",
    "accent": "é",
    "dot": "a.b",
    "percent": "%s",
    "shell": "$(x)",
    "backslash": "\\",
}
LEGAL_OBJECTS = {"keyword"}
ILLEGAL_COLUMNS = {
    "empty",
    "NUL",
    "newline",
    "delete",
    "control",
    "colon",
    "surrogate",
    "long",
}
LEGAL_COLUMNS = [name for kind, name in HOSTILE.items() if kind not in ILLEGAL_COLUMNS]
ILLEGAL_TEXTS = {"NUL", "surrogate", "long"}

Make = Callable[[str], object]

OBJECT_NAMES: dict[str, Make] = {
    "entity": lambda name: Entity(name=name, join_keys={"k": Int64}),
    "source": lambda name: source(name=name),
    "view": lambda name: view(name=name),
    "service": lambda name: FeatureService(name=name, features=[view()]),
    "role": lambda name: view().with_name(name),
    "project": lambda name: FeatureStore(Path(), config={"project": name}),
}
COLUMN_NAMES: dict[str, Make] = {
    "join key": lambda name: Entity(name="e", join_keys={name: Int64}),
    "feature": lambda name: Field(name=name, dtype=Int64),
    "time": lambda name: source(timestamp_field=name),
    "created time": lambda name: source(created_timestamp_column=name),
    "mapped from": lambda name: source(field_mapping={name: "a"}),
    "mapped to": lambda name: source(field_mapping={"a": name}),
    "key taken from": lambda name: view().with_join_key_map({"k": name}),
    "struct field": lambda name: Field(name="x", dtype=pa.struct([(name, pa.int64())])),
}
TEXTS: dict[str, Make] = {
    "description": lambda text: view(description=text),
    "owner": lambda text: view(owner=text),
    "tag": lambda text: view(tags={text: "a"}),
    "tag's value": lambda text: view(tags={"a": text}),
    "field's description": lambda text: Field(name="x", dtype=Int64, description=text),
    "field's tag": lambda text: Field(name="x", dtype=Int64, tags={text: text}),
}
NEVER_RIGHT: dict[str, Make] = {
    "zone": lambda text: source(timezone=text),
    "ambiguous": lambda text: source(ambiguous=text),
    "missing": lambda text: source(missing=text),
    "lateness": lambda text: source(lateness=text),
    "ttl": lambda text: view(ttl=text),
    "type": lambda text: Field(name="x", dtype=text),
    "key type": lambda text: Entity(name="e", join_keys={"k": text}),
    "argument": lambda text: source(**cast("Any", {text: 1})),
    "schema": lambda text: view(schema=text),
    "field": lambda text: view(schema=[text]),
    "entities": lambda text: view(entities=[text]),
    "source of a view": lambda text: view(source=text),
    "features of a service": lambda text: FeatureService(name="s", features=cast("Any", text)),
    "feature of a service": lambda text: FeatureService(name="s", features=cast("Any", [text])),
    "online": lambda text: view(online=text),
    "clock": lambda text: FeatureStore(Path(), config={"project": "p", "clock": text}),
    "store": lambda text: FeatureStore(Path(), config={"project": "p", "online_store": text}),
    "engine": lambda text: FeatureStore(Path(), config={"project": "p", "offline_store": text}),
    "setting": lambda text: FeatureStore(Path(), config={"project": "p", text: "x"}),
    "clock argument": lambda text: FeatureStore(Path(), config={"project": "p"}, clock=text),
}


def check_refused(make: Make, text: str) -> None:
    """Make sure that a text is refused by a message that is safe to print."""
    with pytest.raises((DefinitionError, ConfigError, RequestError)) as caught:
        make(text)
    assert says(caught.value, hint=bool(caught.value.hint))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def store(root: Path) -> Iterator[FeatureStore]:
    with project(root) as opened:
        yield opened


@pytest.mark.parametrize("field", OBJECT_NAMES)
def test_an_objects_name_is_plain_or_refused(field: str) -> None:
    make = OBJECT_NAMES[field]
    for kind, name in HOSTILE.items():
        if kind in LEGAL_OBJECTS:
            make(name)
        else:
            check_refused(make, name)


@pytest.mark.parametrize("field", COLUMN_NAMES)
def test_a_columns_name_is_refused_only_if_nobody_could_carry_it(field: str) -> None:
    make = COLUMN_NAMES[field]
    for kind, name in HOSTILE.items():
        if field == "struct field" and kind == "surrogate":
            continue  # Arrow itself takes none
        if kind in ILLEGAL_COLUMNS:
            check_refused(make, name)
        else:
            make(name)


@pytest.mark.parametrize("field", TEXTS)
def test_texts_for_people_may_hold_nearly_everything(field: str) -> None:
    for kind, text in HOSTILE.items():
        if kind in ILLEGAL_TEXTS:
            check_refused(TEXTS[field], text)
        else:
            TEXTS[field](text)


@pytest.mark.parametrize("field", NEVER_RIGHT)
def test_a_hostile_text_is_no_value_for_anything_else(field: str) -> None:
    for text in HOSTILE.values():
        check_refused(NEVER_RIGHT[field], text)


def test_a_message_names_the_object_the_field_and_the_rule() -> None:
    with pytest.raises(DefinitionError) as caught:
        Entity(name="user", join_keys={"a:b": Int64})
    assert says(caught.value, "Entity 'user'", "join_keys", "'a:b'", "':' separates", hint=False)
    with pytest.raises(DefinitionError) as caught:
        view(timetolive="1h")
    assert says(caught.value, "FeatureView 'reading'", "no argument timetolive")
    with pytest.raises(DefinitionError) as caught:
        source(timestamp_feild="t")
    assert says(caught.value, "did you mean 'timestamp_field'")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Entity(name="e", join_keys=cast("Any", ["k"])), "join_keys={'user_id': Int64}"),
        (lambda: Entity(name="e", join_keys={"k": int}), "featurestore.types"),
        (lambda: Entity(name="e", join_keys={"k": Float64}), "cannot be float64"),
        (lambda: Entity(name="e", join_keys={}), "1 to 16 join keys"),
        (lambda: Entity(name="e", join_keys={"k": Int64, "K": Int64}), "case is ignored"),
        (lambda: view(features={"a": Int64, "A": Int64}), "case is ignored"),
        (lambda: view(features={"K": Int64}), "join key 'k'"),
        (lambda: view(features={"T": Int64}), "time column 't'"),
        (lambda: view(features={}), "1 to 2,000 features"),
        (lambda: view(features={"x": pa.duration("s")}), "is not a type"),
        (lambda: view(features={"x": Decimal(10, -2)}), "is not a type"),
        (lambda: view(features={"x": Decimal(2, 5)}), "is not a type"),
        (lambda: view(features={"x": pa.struct([("a", Int64)])}), "cannot be served online"),
        (lambda: view(features={"x": pa.list_(List(Int64))}), "cannot be served online"),
        (lambda: Field(name="x", dtype=pa.struct([("a", Int64), ("A", Int64)])), "case is ignored"),
        (lambda: view(ttl=0), "longer than zero"),
        (lambda: view(ttl=timedelta.max), "365,000 days"),
        (lambda: view(ttl="999999999999999d"), "longer than"),
        (lambda: source(lateness="-1h"), "is not a duration"),
        (lambda: source(lateness=timedelta(-1)), "negative"),
        (lambda: source("s3://bucket/x"), "only local files"),
        (lambda: source("x" * 5_000), "1 to 4,096 characters"),
        (lambda: source(created_timestamp_column="t"), "is the timestamp_field"),
        (lambda: source(field_mapping={"a": "b", "c": "B"}), "case is ignored"),
        (lambda: FeatureService(name="s", features=[]), "1 to 500 views"),
        (lambda: FeatureService(name="s", features=[view(), view()]), "twice"),
        (lambda: view()[[]], "names no feature"),
        (lambda: view()[["x", "x"]], "twice"),
    ],
)
def test_a_contradiction_is_refused_by_its_rule(make: Callable[[], object], words: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        make()
    assert words in str(caught.value)


def test_objects_of_one_kind_differ_by_more_than_case(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows())
    with pytest.raises(DefinitionError) as caught:
        store.apply([view(), view(name="READING")])
    assert says(caught.value, "'reading'", "'READING'", "differ only by case")
    store.apply([view()])
    with pytest.raises(DefinitionError, match="differ only by case"):
        store.apply([view(name="Reading")])
    assert [v.name for v in store.list_feature_views()] == ["reading"]


@pytest.mark.parametrize("thing", [None, 5, "view", view().select(), FeatureStore])
def test_only_definitions_can_be_applied(store: FeatureStore, thing: Any) -> None:
    with pytest.raises(DefinitionError, match="cannot be applied"):
        store.apply([thing])


# --- end to end --------------------------------------------------------------------------------


def test_hostile_columns_go_through_training_materialization_and_lookup(root: Path) -> None:
    features = LEGAL_COLUMNS[::2]
    keys = LEGAL_COLUMNS[1::2][:8]
    time, created = "🕰 it's;--", '"created" {x}'
    values = {name: [float(n), n + 0.5] for n, name in enumerate(features)}
    key_values = {name: pa.array([f"{name}1", f"{name}2"]) for name in keys}
    plain = rows(2)
    table = {"renamed; --": values[features[0]], time: plain["t"], created: plain["t"]}
    write(root / FILE, table | key_values | {n: values[n] for n in features[1:]})
    of = view(
        keys=dict.fromkeys(keys, String),
        features=dict.fromkeys(features, Float64),
        reads={
            "timestamp_field": time,
            "created_timestamp_column": created,
            "field_mapping": {"renamed; --": features[0]},
        },
    )
    entity_df = pa.table(key_values | {time: plain["t"], "other\0column": [1, 2]})
    with project(root, online_store="lmdb") as store:
        store.apply([of])
        assert store.get_feature_view("reading") == of
        job = store.get_historical_features(entity_df, [of], timestamp_field=time)
        assert job.to_arrow().column_names == [*keys, time, "other\0column", *features]
        assert job.to_arrow().select(features).to_pydict() == values
        assert job.to_polars().columns == job.to_arrow().column_names
        written = job.write_parquet(root / "out; --'.parquet")
        assert written.exists()
        store.materialize()
        lookup = store.get_online_features([of], {n: c.to_pylist() for n, c in key_values.items()})
        served = lookup.to_dict(include_statuses=True)
        assert {name: served[name] for name in features} == values
        assert {served[f"{name}__status"][0] for name in features} == {"PRESENT"}
        full = store.get_online_features([of], key_values, full_feature_names=True).to_dict()
        assert full[f"reading__{features[0]}"] == values[features[0]]
        assert store.verify().ok


def test_values_that_look_like_code_are_only_values(root: Path) -> None:
    texts = [text for kind, text in HOSTILE.items() if kind != "surrogate"]
    count = len(texts)
    write(root / FILE, rows(count, k=texts, x=texts))
    of = view(keys={"k": String}, features={"x": String})
    with project(root, online_store="lmdb") as store:
        store.apply([of])
        table = store.get_historical_features(spine(*texts), [of]).to_arrow()
        assert table["x"].to_pylist() == texts
        store.materialize()
        assert store.get_online_features([of], {"k": texts}).to_dict()["x"] == texts
        assert store.verify().ok


# --- what is not there -------------------------------------------------------------------------


def test_unknown_names_are_not_found_and_near_ones_suggested(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows())
    store.apply([view(), FeatureService(name="forecast", features=[view()])])
    asks: list[tuple[Any, str, str, tuple[str, ...]]] = [
        ("forcast", "feature service", "forcast", ("forecast",)),
        (["raeding:x"], "feature view", "raeding", ("reading",)),
        (["reading:y"], "feature", "y", ()),
        (["reading:X"], "feature", "X", ("x",)),
        (["zzz"], "feature", "zzz", ()),
    ]
    for features, kind, name, suggestions in asks:
        for ask in (
            lambda features=features: store.get_historical_features(spine(1), features),
            lambda features=features: store.get_online_features(features, {"k": [1]}),
        ):
            with pytest.raises(NotFoundError) as caught:
                ask()
            error = caught.value
            assert (error.kind, error.name, error.suggestions) == (kind, name, suggestions)
            assert says(error, name, *map(repr, suggestions), hint=bool(suggestions))


@pytest.mark.parametrize("getter", ["entity", "source", "feature_view", "feature_service"])
def test_getters_suggest_near_names(store: FeatureStore, root: Path, getter: str) -> None:
    write(root / FILE, rows())
    store.apply([view(), FeatureService(name="forecast", features=[view()])])
    near = {"entity": "sensors", "source": "reading", "feature_view": "READINGS"}
    with pytest.raises(NotFoundError) as caught:
        getattr(store, f"get_{getter}")(near.get(getter, "Forecasts"))
    assert says(caught.value, "did you mean")


def test_asking_for_hostile_names_finds_nothing(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows())
    store.apply([view()])
    asks: list[Callable[[str], object]] = [
        store.get_feature_view,
        lambda name: store.get_historical_features(spine(1), name.replace(":", "")),
        lambda name: store.get_historical_features(spine(1), [f"{name}:x"]),
        lambda name: store.get_historical_features(spine(1), [f"reading:{name}"]),
        lambda name: store.get_online_features([f"{name}:x"], {"k": [1]}),
        lambda name: store.get_online_features([f"reading:{name}"], {"k": [1]}),
        lambda name: store.materialize(views=[name]),
        lambda name: store.verify(views=[name]),
    ]
    for name in HOSTILE.values():
        for ask in asks:
            with pytest.raises(NotFoundError) as caught:
                ask(name)
            assert says(caught.value, hint=bool(caught.value.hint))
        for columns in ({name: [1]}, {"k": [1], name: [1]}):
            with pytest.raises(EntityValueError) as refused:
                store.get_online_features(["reading:x"], columns)
            assert says(refused.value, hint=bool(refused.value.hint))


# --- collisions --------------------------------------------------------------------------------


def test_colliding_names_are_refused_before_any_work(store: FeatureStore, root: Path) -> None:
    write(root / FILE, rows(X=[0.0]))
    lower, upper = view(), view(name="other", features={"X": Float64})
    store.apply([lower, upper])
    (root / FILE).unlink()  # whoever starts to work fails in another way
    asks: list[Any] = [[lower, upper], [lower, lower.with_name("role")], ["reading:x", "other:X"]]
    for features in asks:
        with pytest.raises(NameCollisionError) as caught:
            store.get_historical_features(spine(1), features)
        assert {name.lower() for name in caught.value.names} == {"x"}
        assert says(caught.value, "'x'", "full_feature_names=True")
        with pytest.raises(NameCollisionError):
            store.get_online_features(features, {"k": [1]})
    for column in ("x", "X"):
        table = spine(1).append_column(column, pa.array([1]))
        with pytest.raises(NameCollisionError) as caught:
            store.get_historical_features(table, [lower])
        assert caught.value.names == ("x", column)
        assert says(caught.value, repr(column), "rename the column")
    table = spine(1).append_column("Reading__X", pa.array([1]))
    with pytest.raises(NameCollisionError):
        store.get_historical_features(table, [lower], full_feature_names=True)
    with pytest.raises(RequestError, match="asked for twice"):
        store.get_historical_features(spine(1), ["reading:x", "reading:x"])
    with pytest.raises(RequestError, match="asked for twice"):
        store.get_historical_features(spine(1), [lower, "reading:x"])


@pytest.mark.parametrize("features", [None, 5, {"reading:x": 1}, [5], [None], view(), b"x", []])
def test_what_asks_for_no_features_is_refused(store: FeatureStore, features: Any) -> None:
    with pytest.raises(RequestError) as caught:
        store.get_historical_features(spine(1), features)
    assert says(caught.value)


def test_an_error_of_a_source_does_not_outshout_a_wrong_request(
    store: FeatureStore, root: Path
) -> None:
    write(root / FILE, rows())
    store.apply([view()])
    (root / FILE).unlink()
    with pytest.raises(NotFoundError):
        store.get_historical_features(spine(1), ["reading:y"])
    with pytest.raises(SourceError):
        store.get_historical_features(spine(1), ["reading:x"])


def test_all_errors_of_definitions_are_our_own() -> None:
    odd: list[Any] = [None, 5, 1.5, b"x", [], {}, object(), int, "x" * 10_000, "\ud800", (1, 2)]
    kinds: list[type[Definition] | type[Field]] = [Entity, FileSource, FeatureService, Field]
    for kind in kinds:
        for field in kind.model_fields:
            for value in odd:
                if (error := refusal(kind, {"name": "a"} | {field: value})) is not None:
                    assert says(error, hint=bool(error.hint))


def refusal(kind: Callable[..., object], arguments: dict[str, Any]) -> FeatureStoreError | None:
    try:
        kind(**arguments)
    except FeatureStoreError as error:
        return error
    return None
