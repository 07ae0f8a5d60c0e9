"""The dashboard and the alerts ask for metrics and labels that a live server has."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from featurestore_server import families
from featurestore_server.errors import ANSWERS
from featurestore_server.families import Kind

from featurestore.serving.lookup import Status

from .observed import Observed, make_repository, observed, wait_for

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "deploy" / "alerts.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "featurestore.json"
PROMETHEUS_ADDS = {"job", "instance"}

_METRIC = re.compile(r"\b(featurestore[_:][\w:]*)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPED = re.compile(r"\b(?:by|without|on)\s*\(([^)]*)\)")
_SHOWN = re.compile(r"\{\{\s*(?:\$labels\.)?(\w+)")
_LABELLED = re.compile(r"label_values\((\w+), (\w+)\)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    root = tmp_path_factory.mktemp("plant")
    make_repository(root, "server: {backend: false}\n")
    with observed(root) as started:
        started.ask("all", 1, 4)
        started.ask("al", 1)
        wait_for(lambda: started.value("featurestore_request_queue_seconds_count") == 2)
        yield started


@cache
def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@cache
def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [panel for panel in panels if panel["type"] != "row"]


@cache
def _recorded() -> dict[str, set[str]]:
    """Names that rules record, with the labels that they keep."""
    return {r["record"]: _grouped(r["expr"]) for r in _rules() if "record" in r}


QUERIES = [target["expr"] for panel in _panels() for target in panel["targets"]]
QUERIES += [rule["expr"] for rule in _rules()]


def _grouped(query: str) -> set[str]:
    lists = (found.split(",") for found in _GROUPED.findall(query))
    return {label.strip() for labels in lists for label in labels if label.strip()}


def _has(live: dict[str, set[str]], name: str) -> set[str]:
    """The labels of what a query calls so."""
    if name in _recorded():
        return _recorded()[name]
    family = re.sub("_(bucket|count|sum)$", "", name)
    if name not in live and family in live:
        assert families.FAMILIES[family].kind is Kind.HISTOGRAM, name
        return live[family] | PROMETHEUS_ADDS | ({"le"} if name.endswith("_bucket") else set())
    assert name in live, f"no server has {name}"
    assert families.FAMILIES[name].kind is not Kind.HISTOGRAM, f"{name} has no samples"
    return live[name] | PROMETHEUS_ADDS


@pytest.fixture(scope="module")
def live(server: Observed) -> dict[str, set[str]]:
    """Names and labels of a scrape; where nothing happened yet, the labels that are declared."""
    return {
        name: {label for s in family.samples for label in s.labels} - {"le"}
        or set(families.FAMILIES[name].labels)
        for name, family in server.families().items()
    }


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_what_there_is(query: str, live: dict[str, set[str]]) -> None:
    metrics = _METRIC.findall(query)
    assert metrics
    there: set[str] = set()
    for name, matchers in metrics:
        labels = _has(live, name)
        assert {label for label, _, _ in _MATCHER.findall(matchers)} <= labels, name
        there |= labels
    assert _grouped(query) <= there


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_compares_labels_with_values_that_they_can_have(query: str) -> None:
    codes = {answer.code for answer in ANSWERS.values()} | {"OK", "RESOURCE_EXHAUSTED", "UNKNOWN"}
    known = {
        "status": {status.name for status in Status},
        "code": codes,
        "outcome": {"written", "dropped", "failed"},
        "reason": {"data", "error", "unavailable"},
    }
    for _, matchers in _METRIC.findall(query):
        for label, _, wanted in _MATCHER.findall(matchers):
            if not wanted.startswith("$"):
                assert set(wanted.split("|")) <= known[label]


def test_legends_and_annotations_name_labels_that_are_left(live: dict[str, set[str]]) -> None:
    shown = [(t["expr"], t["legendFormat"]) for panel in _panels() for t in panel["targets"]]
    shown += [
        (rule["expr"], text) for rule in _rules() for text in rule.get("annotations", {}).values()
    ]
    for query, text in shown:
        left = _grouped(query)
        if not left:
            left = set.union(*(_has(live, name) for name, _ in _METRIC.findall(query)))
        left |= set().union(*(_recorded().get(name, set()) for name, _ in _METRIC.findall(query)))
        assert set(_SHOWN.findall(text)) <= left | {"value"}, (query, text)


def test_the_dashboards_variables_are_labels(live: dict[str, set[str]]) -> None:
    variables = json.loads(DASHBOARD.read_text())["templating"]["list"]
    assert [v["name"] for v in variables] == ["datasource", "job", "service"]
    for variable in variables[1:]:
        found = _LABELLED.fullmatch(variable["query"])
        assert found is not None
        assert found[2] in _has(live, found[1])


def test_panels_read_the_chosen_data_source_and_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & own
        assert at["x"] + at["w"] <= 24
        cells |= own
    sources = [p["datasource"] for p in _panels()]
    sources += [target["datasource"] for panel in _panels() for target in panel["targets"]]
    assert {source["uid"] for source in sources} == {"${datasource}"}


def test_every_metric_is_on_the_dashboard() -> None:
    queries = " ".join(target["expr"] for panel in _panels() for target in panel["targets"])
    shown = {re.sub("_(bucket|count|sum)$", "", name) for name, _ in _METRIC.findall(queries)}
    assert shown == families.FAMILIES.keys()


def test_alerts_say_how_bad_what_and_what_to_do() -> None:
    for rule in _rules():
        if "alert" in rule:
            assert rule["alert"].startswith("FeatureStore")
            assert rule["labels"]["severity"] in ("page", "ticket")
            assert rule["annotations"].keys() == {"summary", "description"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is Prometheus' own")
def test_alerts_fire_when_they_should() -> None:
    for command in (
        ("check", "rules", ALERTS),
        ("test", "rules", ROOT / "tests/server/alerts.yml"),
    ):
        ran = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
