"""The reader of scenario files: definitions, rows, calls, and what they must answer.

A scenario is one TOML file:

    name = "A correction wins over the row it corrects."   # one sentence
    day = "2024-03-05"            # date of all times that have none
    clock = "12:00Z"              # what time it is at first; default noon of `day`, UTC

    [entities.user]
    user_id = "int64"             # join keys and their types

    [sources.profiles]            # fields of FileSource; `path` is relative to the source's own
    timestamp_field = "at"        # folder, default "*.parquet"
    created_timestamp_column = "created"

    [sources.profiles.files]      # path of a file -> its rows (`featurestore.testing.text_tables`)
    "a.parquet" = '''
    user_id: int64 | at: time | created: time | score: float64
    1              | 10:00    | 10:05         | 1.5
    '''

    [views.profile]               # fields of FeatureView
    entities = ["user"]
    source = "profiles"
    schema = { score = "float64" }
    ttl = "1h"

    [views.spend]                 # or, instead of a schema, aggregations: fields of Aggregation,
    entities = ["user"]           # windows "all" for all history
    source = "payments"
    aggregations = [{ column = "amount", functions = ["sum", "last_2"], windows = ["7d", "all"] }]

    [request_sources.request]     # request fields and their types
    amount = "float64"

    [on_demand_views.ratio]       # sources as in services; name of a feature = expression
    sources = ["profile", "request"]
    features = { amount_to_score = "amount / nullif(score, 0)" }

    [modules]                     # Python functions: file = text; function = "scoring:score"
    "scoring.py" = "..."          # and schema = { name = "type" } then stand for features

    [services]                    # a view, or some of its features, perhaps under a role
    model = ["profile", { view = "profile", features = ["score"], name = "friend_profile",
                          join_key_map = { user_id = "friend_id" } }]

    [[step]]                      # in order; each has one of train, look_up, materialize,
    train = ["profile:score"]     # materialize_incremental, append, push, delete, clock
    rows = '''
    user_id: int64 | event_timestamp: time || score: float64
    1              | 10:00                 || 1.5
    '''

    [[step]]
    materialize = { end = "12:00Z" }                       # start and views are optional

    [[step]]
    look_up = "model"
    rows = '''
    user_id: int64 || score: float64 | @profile: time
    1              || 1.5            | 10:00
    2              || NOT_FOUND      | null
    '''

    [[step]]
    push = "profile"              # rows of its source, as those of files above
    rows = "..."

    [[step]]
    delete = { user_id = 1 }      # from all online views that have these join keys

Left of `||` is what is given, right of it what must come back: all columns, their types, all rows,
in order. In a lookup a cell may be a status instead of a value (a value means PRESENT); behind
NOT_FOUND may come the value of an empty window, as in `NOT_FOUND 0`. A column `@view` is the event
time of the row served. A `train` step takes the options `mode`,
`timezone`, `timestamp_field`, `full_feature_names`, a `look_up` step the last of them. Any call may
have `error = { type = "SpineError", words = ["row 1"] }` instead of an answer; its rows then need
no right side.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from featurestore.definitions import (
    Aggregation,
    Entity,
    FeatureService,
    FeatureView,
    FeatureViewSelection,
    Field,
    FileSource,
    OnDemandFeatureView,
    OnDemandSelection,
    RequestSource,
)
from featurestore.errors import FeatureStoreError
from featurestore.testing.local_time import round_down
from featurestore.testing.oracle import Status
from featurestore.testing.plain import PlainTable, RawTime, parse_time
from featurestore.testing.scenario import (
    Append,
    Delete,
    ExpectedError,
    Features,
    LookUp,
    Materialize,
    Push,
    Scenario,
    SetClock,
    Step,
    Train,
)
from featurestore.testing.text_tables import read_header, read_rows, read_table, split_row

DATA_FOLDER: Final = "data"
FUNCTION_FOLDER: Final = "functions"
_TOP: Final = {"name", "day", "clock", "entities", "sources", "views", "services", "step"} | {
    "request_sources",
    "on_demand_views",
    "modules",
}
_WITHHELD: Final[dict[str, Status]] = {
    "NULL_VALUE": "NULL_VALUE",
    "NOT_FOUND": "NOT_FOUND",
    "OUTSIDE_MAX_AGE": "OUTSIDE_MAX_AGE",
}

_EMPTY_WINDOW: Final = "NOT_FOUND "


class ScenarioError(ValueError):
    """A scenario file that cannot be read; the message names the file and the place in it."""


def read_scenarios(folder: Path) -> list[Scenario]:
    """Return the scenarios of all `.toml` files of a folder, by name of the file."""
    return [read_scenario(path) for path in sorted(folder.glob("*.toml"))]


def read_scenario(path: Path) -> Scenario:
    """Return the scenario of one file.

    Raises:
        ScenarioError: The file is not a scenario; the message names it and the step.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        _check_keys("the scenario", document, _TOP)
        return _scenario(path.stem, document)
    except (ValueError, LookupError, TypeError, FeatureStoreError) as error:
        raise ScenarioError(f"{path.name}: {type(error).__name__}: {error}") from error


def _scenario(scenario_id: str, document: Mapping[str, Any]) -> Scenario:
    day = document["day"]
    entities = {
        n: Entity(name=n, join_keys=keys) for n, keys in document.get("entities", {}).items()
    }
    sources = {n: _source(n, fields) for n, fields in document["sources"].items()}
    views = {n: _view(n, fields, entities, sources) for n, fields in document["views"].items()}
    requests = {n: _request(n, fields) for n, fields in document.get("request_sources", {}).items()}
    on_demand = {
        n: _on_demand(n, fields, views, requests)
        for n, fields in document.get("on_demand_views", {}).items()
    }
    known: dict[str, FeatureView | OnDemandFeatureView] = {**views, **on_demand}
    services = {n: _service(n, items, known) for n, items in document.get("services", {}).items()}
    files = {n: _files(fields, day) for n, fields in document["sources"].items()}
    return Scenario(
        id=scenario_id,
        name=document["name"],
        now_us=_instant(document.get("clock", "12:00Z"), day),
        entities=entities,
        sources=sources,
        views=views,
        services=services,
        files=files,
        request_sources=requests,
        on_demand_views=on_demand,
        modules=document.get("modules", {}),
        steps=[
            _without_request_fields(_step(number, step, day), services, on_demand)
            for number, step in enumerate(document["step"])
        ],
    )


def _without_request_fields(
    step: Step,
    services: Mapping[str, FeatureService],
    on_demand: Mapping[str, OnDemandFeatureView],
) -> Step:
    """Return a step; a lookup gives back join keys and features, and no request fields."""
    if not isinstance(step, LookUp) or step.expected is None:
        return step
    if isinstance(step.features, str):
        asked = [s.view.name for s in services[step.features].selections]
    else:
        asked = [name.partition(":")[0] for name in step.features]
    views = [on_demand[name] for name in asked if name in on_demand]
    fields = {name for view in views for name in view.request_fields}
    columns = {n: t for n, t in step.expected.columns.items() if n not in fields}
    rows = [{name: row[name] for name in columns} for row in step.expected.rows]
    return replace(step, expected=PlainTable(columns, rows))


def _source(name: str, document: Mapping[str, Any]) -> FileSource:
    fields = {key: value for key, value in document.items() if key != "files"}
    path = f"{DATA_FOLDER}/{name}/{fields.pop('path', '*.parquet')}"
    return FileSource(name=name, path=path.removesuffix("/."), **fields)


def _files(document: Mapping[str, Any], day: str) -> dict[str, PlainTable]:
    return {path: read_table(text, day=day) for path, text in document["files"].items()}


def _view(
    name: str,
    document: Mapping[str, Any],
    entities: Mapping[str, Entity],
    sources: Mapping[str, FileSource],
) -> FeatureView:
    fields = dict(document)
    fields["entities"] = [entities[entity] for entity in fields.get("entities", ())]
    fields["source"] = sources[fields["source"]]
    fields["joins"] = [sources[name] for name in fields.get("joins", ())]
    schema = fields.pop("schema", {})
    aggregations = [Aggregation(**a) for a in fields.pop("aggregations", ())]
    fields["schema"] = [Field(name=n, dtype=dtype) for n, dtype in schema.items()]
    return FeatureView(name=name, aggregations=aggregations, **fields)


def _request(name: str, fields: Mapping[str, str]) -> RequestSource:
    return RequestSource(name=name, schema=[Field(name=n, dtype=t) for n, t in fields.items()])


def _on_demand(
    name: str,
    document: Mapping[str, Any],
    views: Mapping[str, FeatureView],
    requests: Mapping[str, RequestSource],
) -> OnDemandFeatureView:
    fields = dict(document)
    sources: list[Any] = [
        requests[item] if isinstance(item, str) and item in requests else _selection(item, views)
        for item in fields.pop("sources")
    ]
    schema = [Field(name=n, dtype=t) for n, t in fields.pop("schema", {}).items()]
    return OnDemandFeatureView(name=name, sources=sources, schema=schema, **fields)


def _service(
    name: str,
    items: Sequence[str | Mapping[str, Any]],
    views: Mapping[str, FeatureView | OnDemandFeatureView],
) -> FeatureService:
    return FeatureService(name=name, features=[_selection(item, views) for item in items])


def _selection(
    item: str | Mapping[str, Any], views: Mapping[str, Any]
) -> FeatureViewSelection | OnDemandSelection:
    if isinstance(item, str):
        whole: FeatureViewSelection | OnDemandSelection = views[item].select()
        return whole
    _check_keys("a selection", item, {"view", "features", "name", "join_key_map"})
    view = views[item["view"]]
    if isinstance(view, OnDemandFeatureView):
        return view[item["features"]]
    return FeatureViewSelection(
        view=view,
        features=item.get("features"),
        alias=item.get("name"),
        join_key_map=item.get("join_key_map", {}),
    )


def _instant(text: str, day: str) -> int:
    raw = parse_time(text, day=day)
    if not raw.aware:
        raise ScenarioError(f"{text!r} needs an offset, such as Z")
    return round_down(raw.ns)


def _step(number: int, document: Mapping[str, Any], day: str) -> Step:
    kinds = [kind for kind in _STEPS if kind in document]
    if len(kinds) != 1:
        raise ScenarioError(f"step {number} needs exactly one of {', '.join(_STEPS)}")
    try:
        return _STEPS[kinds[0]](document, day)
    except (ValueError, LookupError, TypeError) as error:
        raise ScenarioError(f"step {number} ({kinds[0]}): {error}") from error


def _set_clock(document: Mapping[str, Any], day: str) -> SetClock:
    _check_keys("the step", document, {"clock"})
    return SetClock(now_us=_instant(document["clock"], day))


def _append(document: Mapping[str, Any], day: str) -> Append:
    _check_keys("the step", document, {"append", "rows"})
    _check_keys("append", document["append"], {"source", "file"})
    return Append(**document["append"], rows=read_table(document["rows"], day=day))


def _push(document: Mapping[str, Any], day: str) -> Push:
    _check_keys("the step", document, {"push", "rows", "error"})
    rows = read_table(document["rows"], day=day)
    return Push(view=document["push"], rows=rows, error=_error(document))


def _delete(document: Mapping[str, Any], _day: str) -> Delete:
    _check_keys("the step", document, {"delete"})
    return Delete(entity=document["delete"])


def _materialize(document: Mapping[str, Any], day: str) -> Materialize:
    return _run("materialize", document, day)


def _materialize_incremental(document: Mapping[str, Any], day: str) -> Materialize:
    return _run("materialize_incremental", document, day)


def _run(kind: str, document: Mapping[str, Any], day: str) -> Materialize:
    _check_keys("the step", document, {kind, "error"})
    call = document[kind]
    _check_keys(kind, call, {"start", "end", "views"})
    return Materialize(
        end_us=_instant(call["end"], day),
        start_us=_instant(call["start"], day) if "start" in call else None,
        views=tuple(call.get("views", ())),
        incremental=kind != "materialize",
        error=_error(document),
    )


def _train(document: Mapping[str, Any], day: str) -> Train:
    options = {"mode", "timezone", "timestamp_field", "full_feature_names"}
    _check_keys("the step", document, {"train", "rows", "error"} | options)
    given, answer = _two_sides(document)
    spine = given.read(day)
    return Train(
        features=_features(document["train"]),
        spine=spine,
        expected=None if answer is None else _beside(spine, answer.read(day)),
        error=_error(document),
        **{key: value for key, value in document.items() if key in options},
    )


def _look_up(document: Mapping[str, Any], day: str) -> LookUp:
    _check_keys("the step", document, {"look_up", "rows", "error", "full_feature_names"})
    given, answer = _two_sides(document)
    entities = given.read(day)
    call = LookUp(
        features=_features(document["look_up"]),
        entities=entities,
        error=_error(document),
        full_feature_names=document.get("full_feature_names", False),
    )
    if answer is None:
        return call
    times = answer.only(lambda name: name.startswith("@")).read(day)
    features = answer.only(lambda name: not name.startswith("@"))
    return replace(
        call,
        expected=_beside(entities, features.without_statuses().read(day)),
        statuses=features.statuses(),
        event_times={name[1:]: _micros(times.column(name)) for name in times.columns},
    )


def _micros(times: Sequence[object]) -> list[int | None]:
    return [round_down(t.ns) if isinstance(t, RawTime) else None for t in times]


_STEPS: Final[dict[str, Callable[[Mapping[str, Any], str], Step]]] = {
    "train": _train,
    "look_up": _look_up,
    "materialize": _materialize,
    "materialize_incremental": _materialize_incremental,
    "append": _append,
    "push": _push,
    "delete": _delete,
    "clock": _set_clock,
}


@dataclass(frozen=True, slots=True)
class _Cells:
    """One side of the table of a call: columns, and cells as they are written."""

    columns: Mapping[str, Any]
    rows: Sequence[Sequence[str]]

    def read(self, day: str) -> PlainTable:
        return read_rows(self.columns, self.rows, day=day)

    def only(self, wanted: Callable[[str], bool]) -> "_Cells":
        kept = [number for number, name in enumerate(self.columns) if wanted(name)]
        columns = {name: dtype for name, dtype in self.columns.items() if wanted(name)}
        return _Cells(columns, [[row[number] for number in kept] for row in self.rows])

    def statuses(self) -> dict[str, list[Status]]:
        names = list(self.columns)
        return {name: [_status(row[n]) for row in self.rows] for n, name in enumerate(names)}

    def without_statuses(self) -> "_Cells":
        rows = [[_value_of(cell) for cell in row] for row in self.rows]
        return _Cells(self.columns, rows)


def _status(cell: str) -> Status:
    if cell == "null":
        raise ScenarioError("a looked-up cell is a value or a status: write NULL_VALUE")
    return "NOT_FOUND" if cell.startswith(_EMPTY_WINDOW) else _WITHHELD.get(cell, "PRESENT")


def _value_of(cell: str) -> str:
    return "null" if cell in _WITHHELD else cell.removeprefix(_EMPTY_WINDOW)


def _two_sides(document: Mapping[str, Any]) -> tuple[_Cells, _Cells | None]:
    """Return what a call gives, and what must come back; None if that is an error."""
    header, *lines = [split_row(line) for line in document["rows"].splitlines() if line.strip()]
    if "error" in document:
        return _Cells(read_header(header[0]), [line[0] for line in lines]), None
    if any(len(line) != 2 for line in (header, *lines)):
        raise ScenarioError("every line needs one '||'")
    given = _Cells(read_header(header[0]), [line[0] for line in lines])
    return given, _Cells(read_header(header[1]), [line[1] for line in lines])


def _beside(left: PlainTable, right: PlainTable) -> PlainTable:
    rows = [{**a, **b} for a, b in zip(left.rows, right.rows, strict=True)]
    return PlainTable({**left.columns, **right.columns}, rows)


def _features(value: str | list[str]) -> Features:
    return value if isinstance(value, str) else tuple(value)


def _error(document: Mapping[str, Any]) -> ExpectedError | None:
    if "error" not in document:
        return None
    _check_keys("error", document["error"], {"type", "words"})
    return ExpectedError(type=document["error"]["type"], words=tuple(document["error"]["words"]))


def _check_keys(where: str, document: Mapping[str, Any], known: set[str]) -> None:
    if unknown := set(document) - known:
        raise ScenarioError(f"{where} has no {', '.join(sorted(unknown))}")
