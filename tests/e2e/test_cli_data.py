"""get-historical, materialize, get-online, verify, doctor."""

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore import FeatureStore
from featurestore.cli import exits
from featurestore.online.store import EncodedRows, TableId
from tests.certificates import Authority

from .command_line import BIG, SETTINGS, Repository, at, make_repository


@pytest.fixture
def fresh(tmp_path: Path, applied: Repository) -> Repository:
    """A repository that was applied; a test may change it."""
    return applied.copied(tmp_path / "repo")


@pytest.fixture
def own(tmp_path: Path, filled: Repository) -> Repository:
    """A repository that was applied and materialized; a test may change it."""
    return filled.copied(tmp_path / "repo")


@pytest.fixture
def spine(own: Repository) -> str:
    times = pa.array([at(1, 2), at(2, 21), at(2, 26), None], pa.timestamp("us", "UTC"))
    return str(own.write_spine({"user_id": [1, 1, 9, 2], "event_timestamp": times}))


# ---- get-historical


def test_a_training_set_is_printed_with_the_spines_rows(own: Repository, spine: str) -> None:
    asked = ("get-historical", "--features", "scoring", "--spine", spine, "--json")
    document = own.succeed(*asked).document
    assert document["num_rows"] == 4
    assert document["rows"] == [
        row(1, "2026-01-02T00:00:00Z", "NO", 10.0, "1"),
        row(1, "2026-02-21T00:00:00Z", "SE", "NaN", str(BIG)),
        row(9, "2026-02-26T00:00:00Z", None, None, None),
        row(2, None, None, None, None),
    ]
    assert document["columns"][1] == {"name": "event_timestamp", "type": "timestamp[us, UTC]"}


def row(user: int, time: str | None, *features: Any) -> dict[str, Any]:
    names = ("country", "credit", "orders")
    return {"user_id": str(user), "event_timestamp": time} | dict(zip(names, features, strict=True))


def test_a_training_set_is_printed_as_a_table_with_a_limit(own: Repository, spine: str) -> None:
    outcome = own.succeed("get-historical", "-f", "scoring", "--spine", spine, "--limit", "2")
    assert outcome.lines_with("2026-02-21")[0][2:] == ["SE", "NaN", str(BIG)]
    assert len(outcome.out.splitlines()) == 2 + 2
    assert "2 of 4 rows; --output FILE writes all" in outcome.err


def test_a_training_set_is_written_to_a_file(own: Repository, spine: str) -> None:
    file = own.folder / "train.parquet"
    asked = ("get-historical", "-f", "profile:orders,profile:since", "--spine", spine)
    outcome = own.succeed(*asked, "--output", str(file))
    assert outcome.out == f"{file}: 4 rows, 2 features\n"
    table = pq.read_table(file)
    assert table.column_names == ["user_id", "event_timestamp", "orders", "since"]
    assert table.column("orders").to_pylist() == [1, BIG, None, None]
    assert own.succeed(*asked, "-o", str(file), "--json").document["output"] == str(file)


def test_features_may_be_named_one_by_one_and_in_full(own: Repository, spine: str) -> None:
    asked = ("get-historical", "-f", "profile:blob", "-f", "profile:since", "--spine", spine)
    document = own.succeed(*asked, "--full-feature-names", "--json").document
    assert document["rows"][1]["profile__blob"] == "AP8="
    assert document["rows"][1]["profile__since"] == "2020-01-02"


def test_a_spine_may_be_a_query_over_the_sources(own: Repository) -> None:
    query = "SELECT user_id, event_timestamp FROM users WHERE user_id = 2"
    document = own.succeed("get-historical", "-f", "scoring", "--sql", query, "--json").document
    assert document["rows"] == [row(2, "2026-02-25T00:00:00Z", "DE", None, "3")]


def test_naive_times_of_a_spine_are_read_in_the_zone_that_is_named(own: Repository) -> None:
    naive = pa.array([at(1, 1).replace(tzinfo=None)], pa.timestamp("us"))
    spine = str(own.write_spine({"user_id": [1], "when": naive}))
    asked = ("get-historical", "-f", "scoring", "--spine", spine, "--timestamp-field", "when")
    east = own.succeed(*asked, "--timezone", "Asia/Tokyo", "--json").document["rows"]
    utc = own.succeed(*asked, "--json").document["rows"]
    assert (east[0]["country"], utc[0]["country"]) == (None, "NO")
    assert utc[0]["when"] == "2026-01-01T00:00:00"


def test_what_was_served_is_told_apart_from_what_is_known_today(own: Repository) -> None:
    table = pq.read_table(own.folder / "data" / "users.parquet")
    late = pa.array([at(3, 1)] * 4, pa.timestamp("us", "UTC"))
    table = table.set_column(table.column_names.index("created"), "created", late)
    pq.write_table(table, own.folder / "data" / "users.parquet")
    times = pa.array([at(1, 2)], pa.timestamp("us", "UTC"))
    spine = str(own.write_spine({"user_id": [1], "event_timestamp": times}))
    asked = ("get-historical", "-f", "scoring", "--spine", spine, "--json")
    assert own.succeed(*asked).document["rows"][0]["country"] == "NO"
    served = own.succeed(*asked, "--mode", "as_served").document["rows"][0]
    assert served["country"] is None


def test_another_engine_is_one_line_of_configuration(own: Repository, spine: str) -> None:
    asked = ("get-historical", "-f", "scoring", "--spine", spine)
    query = "SELECT user_id, event_timestamp FROM users ORDER BY orders DESC"
    calls = [(*asked, "--json"), ("get-historical", "-f", "scoring", "--sql", query, "--json")]
    before = [own.succeed(*call).document for call in calls]
    settings = own.folder / "feature_store.yaml"
    assert "type: duckdb" in SETTINGS
    settings.write_text(SETTINGS.replace("type: duckdb", "type: polars"))
    assert [own.succeed(*call).document for call in calls] == before
    assert "engine polars" in own.succeed(*asked, "--explain").out
    own.succeed("materialize", "--overwrite")
    assert own.succeed("verify", "--json").document["ok"] is True


def test_how_a_training_set_would_be_computed_can_be_explained(own: Repository, spine: str) -> None:
    asked = ("get-historical", "-f", "scoring", "--spine", spine, "--explain")
    assert "4 spine rows" in own.succeed(*asked).out
    document = own.succeed(*asked, "--json").document
    assert (document["num_rows"], "users.parquet" in document["explain"]) == (4, True)


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_training_set_that_is_stopped_leaves_nothing(
    own: Repository, forked: Path, number: signal.Signals, code: int, word: str
) -> None:
    temp, out = own.folder / "temp", own.folder / "out"
    out.mkdir()
    settings = SETTINGS.replace("threads: 1", f"threads: 1, temp_directory: {temp}")
    (own.folder / "feature_store.yaml").write_text(settings)
    many = pa.array(range(500_000))
    times = pa.repeat(pa.scalar(at(2, 21), pa.timestamp("us", "UTC")), len(many))
    spine = own.write_spine({"user_id": many, "event_timestamp": times})
    asked = ("get-historical", "-f", "scoring", "--spine", str(spine), "--quiet")
    with replace(own, program=forked).spawn(
        *asked, "--output", str(out / "train.parquet")
    ) as process:
        while not list(out.iterdir()):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (code, f"error: {word}\n")
    assert [*out.iterdir(), *temp.glob("*")] == []


@pytest.mark.parametrize("options", [(), ("--spine", "x.parquet", "--sql", "SELECT 1")])
def test_a_spine_is_a_file_or_a_query(filled: Repository, options: tuple[str, ...]) -> None:
    outcome = filled.run("get-historical", "-f", "scoring", *options)
    assert outcome.code == exits.USAGE
    assert "either --spine FILE or --sql QUERY" in outcome.err


# ---- materialize


def test_materialize_tells_what_it_did_view_by_view(fresh: Repository) -> None:
    runs = fresh.succeed("materialize", "--json").document["runs"]
    assert [(r["view"], r["kind"], r["rows_read"], r["written"]) for r in runs] == [
        ("profile", "full", 4, 3),
        ("traffic", "full", 2, 2),
    ]
    assert runs[0]["end"] == "2026-03-01T00:00:00Z"
    assert fresh.succeed("materialize").lines_with("profile")[0][:5] == [
        "profile",
        "1",
        "full",
        "2026-03-01T00:00:00Z",
        "4",
    ]


def test_a_window_of_one_view_can_be_materialized(fresh: Repository) -> None:
    window = ("--start", "2026-01-31", "--end", "2026-02-21T00:00:00Z", "--view", "profile")
    [run] = fresh.succeed("materialize", *window, "--json").document["runs"]
    assert (run["kind"], run["rows_read"], run["written"]) == ("window", 1, 1)
    [listed] = fresh.succeed("list", "runs", "--json").document["runs"]
    assert (listed["start"], listed["status"]) == ("2026-01-31T00:00:00Z", "succeeded")


def test_an_end_in_the_future_becomes_now_and_is_said_so(fresh: Repository) -> None:
    outcome = fresh.succeed("materialize", "--end", "2030-01-01T00:00:00Z")
    assert "The end lies in the future; 2026-03-01T00:00:00Z (now) was taken" in outcome.err


def test_an_incremental_run_after_a_full_one_has_nothing_to_write(fresh: Repository) -> None:
    kinds = []
    for _ in range(2):
        outcome = fresh.succeed("materialize-incremental", "--view", "profile", "--json")
        [run] = outcome.document["runs"]
        kinds.append((run["kind"], run["written"]))
    assert kinds == [("full", 3), ("incremental", 0)]
    runs = fresh.succeed("list", "runs", "--view", "profile", "--json").document["runs"]
    assert [run["kind"] for run in runs] == ["incremental", "full"]
    assert fresh.succeed("list", "views").lines_with("profile")[0][-1] == "2026-03-01T00:00:00Z"


def test_overwrite_replaces_what_is_newer(fresh: Repository) -> None:
    fresh.succeed("materialize", "--view", "profile")
    older = ("materialize", "--end", "2026-01-20", "--view", "profile", "--json")
    [kept] = fresh.succeed(*older).document["runs"]
    [forced] = fresh.succeed(*older, "--overwrite").document["runs"]
    assert (kept["kept"], kept["written"]) == (1, 1)
    assert (forced["kept"], forced["written"]) == (0, 2)


def test_a_project_without_online_views_has_nothing_to_materialize(tmp_path: Path) -> None:
    repo = make_repository(tmp_path / "repo")
    outcome = repo.succeed("materialize")
    assert (outcome.out, "nothing to materialize" in outcome.err) == ("", True)


# ---- get-online


def test_a_lookup_returns_values_statuses_and_ages(filled: Repository) -> None:
    keys = [part for user in (1, 2, 3, 4) for part in ("--entity", f"user_id={user}")]
    document = filled.succeed("get-online", "scoring", *keys, "--json").document
    assert document["request_time"] == "2026-03-01T00:00:00Z"
    assert document["features"][2] == {"name": "orders", "type": "int64", "view": "profile"}
    first, second, third, fourth = document["entities"]
    assert first["keys"] == {"user_id": "1"}
    day = 86_400.0
    assert first["features"]["orders"] == cell(str(BIG), "PRESENT", "2026-02-20", 9 * day)
    assert first["features"]["credit"]["value"] == "NaN"
    assert second["features"]["credit"] == cell(None, "NULL_VALUE", "2026-02-25", 4 * day)
    assert third["features"]["orders"] == cell(None, "OUTSIDE_MAX_AGE", "2026-01-15", 45 * day)
    assert fourth["features"]["orders"] == cell(None, "NOT_FOUND", None, None)


def cell(value: object, status: str, day: str | None, age_s: float | None) -> dict[str, object]:
    event = None if day is None else f"{day}T00:00:00Z"
    return {"value": value, "status": status, "event_time": event, "age_s": age_s}


def test_a_lookup_is_printed_as_a_table(filled: Repository) -> None:
    outcome = filled.succeed("get-online", "profile:orders", "-e", "user_id=1", "-e", "user_id=4")
    found, missing = outcome.lines_with("orders")
    assert found == ["1", "orders", str(BIG), "PRESENT", "9d", "2026-02-20T00:00:00Z"]
    assert missing == ["4", "orders", "null", "NOT_FOUND"]


def test_composite_keys_are_written_with_commas_or_as_json(filled: Repository) -> None:
    asked = ("get-online", "traffic:flights", "--json", "-e")
    plain = filled.succeed(*asked, "origin=JFK,dest=LAX").document["entities"]
    quoted = filled.succeed(*asked, '{"origin": "LGA", "dest": "BO,S"}').document["entities"]
    assert plain[0]["features"]["flights"]["value"] == "5"
    assert quoted[0]["features"]["flights"]["value"] == "6"


def test_a_null_key_is_not_found(filled: Repository) -> None:
    asked = ("get-online", "scoring", "-e", '{"user_id": null}', "--json")
    [entity] = filled.succeed(*asked).document["entities"]
    assert entity["keys"] == {"user_id": None}
    assert entity["features"]["orders"]["status"] == "NOT_FOUND"


# ---- verify


def test_verify_finds_nothing_wrong_with_what_was_materialized(filled: Repository) -> None:
    outcome = filled.succeed("verify")
    assert "17 values compared: none differs without an excuse." in outcome.out
    document = filled.succeed("verify", "--all", "--json").document
    assert (document["ok"], document["values"], document["defects"]) == (True, 17, 0)
    sampled = filled.succeed("verify", "--sample", "1", "--view", "profile", "--json").document
    assert [view["entities"] for view in sampled["views"]] == [1]


def test_verify_ends_with_an_error_when_a_stored_value_is_wrong(own: Repository) -> None:
    corrupt_one_value(own)
    outcome = own.run("verify")
    assert outcome.code == exits.ERROR
    assert "1 of 17 values differ without an excuse." in outcome.out
    assert outcome.lines_with("origin=")[0][-1] == "DEFECT"
    document = own.run("verify", "--json").document
    assert document["ok"] is False
    [example] = [e for view in document["views"] for e in view["examples"]]
    assert (example["category"], example["feature"]) == ("DEFECT", "flights")


def corrupt_one_value(repo: Repository) -> None:
    table = TableId(project="shop", view="traffic", generation=1)
    with FeatureStore(repo.folder) as store:
        [(key, value), *_] = [row for rows in store.online_store.scan(table) for row in rows]
        wrong = value[:-8] + bytes(byte ^ 1 for byte in value[-8:])
        rows = EncodedRows(keys=[key], values=[wrong])
        store.online_store.write(table, rows, overwrite=True)


def test_verify_of_nothing_is_an_error(fresh: Repository) -> None:
    outcome = fresh.run("verify")
    assert outcome.code == exits.ERROR
    assert "Nothing was compared" in outcome.out


# ---- doctor


def checks(repo: Repository, *options: str, code: int = 0) -> dict[str, list[tuple[str, str]]]:
    outcome = repo.run("doctor", "--json", *options)
    assert outcome.code == code, outcome.out
    found: dict[str, list[tuple[str, str]]] = {}
    for check in outcome.document["checks"]:
        found.setdefault(check["subject"], []).append((check["status"], check["detail"]))
    return found


def test_doctor_finds_a_filled_repository_well_but_for_its_clock(filled: Repository) -> None:
    found = checks(filled)
    [(status, detail)] = found.pop("clock")
    assert (status, "stands still at 2026-03-01T00:00:00Z" in detail) == ("warning", True)
    assert {status for each in found.values() for status, _ in each} == {"ok"}
    assert "revision 1, 8 objects" in found["registry"][0][1]
    assert "4 rows; online up to 2026-03-01T00:00:00Z" in found["view profile"][0][1]
    assert any(subject.startswith("online store: ") for subject in found)
    shown = filled.succeed("doctor").out
    assert "duckdb 2" in shown
    assert "0 errors, 1 warning\n" in shown


def test_doctor_tells_where_every_setting_comes_from(
    filled: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURESTORE_ONLINE_STORE__TIMEOUT_MS", "250")
    monkeypatch.setenv(
        "FEATURESTORE_ONLINE_STORE__URL", "redis://me:secret@example.com:1/0?x=secret"
    )
    monkeypatch.setenv("FEATURESTORE_ONLINE_STORE__PASSWORD", "secret")
    document = filled.succeed("doctor", "--quick", "--json").document
    settings = {each["setting"]: (each["value"], each["origin"]) for each in document["settings"]}
    origin = "$FEATURESTORE_ONLINE_STORE__TIMEOUT_MS"
    assert settings["online_store.timeout_ms"] == (250, origin)
    assert settings["project"][1].endswith("feature_store.yaml")
    assert settings["server.workers"] == (1, "default")
    assert settings["online_store.url"][0] == "redis://***@example.com:1/0"
    assert settings["online_store.password"][0] == "***"
    assert settings["online_store.sentinel_password"][0] is None
    assert "secret" not in filled.succeed("doctor", "--quick").out


def test_doctor_looks_at_the_certificate_of_the_server(
    filled: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path / "ca")
    certificate, key = authority.sign("localhost", days=400)
    monkeypatch.setenv("FEATURESTORE_SERVER__TLS__CERTIFICATE", str(certificate))
    monkeypatch.setenv("FEATURESTORE_SERVER__TLS__KEY", str(key))
    key.chmod(0o600)
    [(status, detail)] = checks(filled, "--quick")["certificate"]
    assert (status, "in 399 days" in detail) == ("ok", True), detail
    key.chmod(0o644)
    authority.sign("localhost", days=29)
    monkeypatch.setenv("FEATURESTORE_SERVER__TLS__CLIENT_CA", str(authority.certificate))
    found = checks(filled, "--quick")
    assert [status for status, _ in found["certificate"]] == ["warning", "warning"]
    assert "every user of this machine may read the key" in found["certificate"][1][1]
    assert [status for status, _ in found["authority of clients"]] == ["warning"]
    authority.sign("localhost", days=-1)
    [(status, detail)] = checks(filled, "--quick", code=1)["certificate"]
    assert (status, "expired at" in detail) == ("error", True)


def test_doctor_says_what_was_never_applied_or_materialized(fresh: Repository) -> None:
    found = checks(fresh)
    assert found["view profile"] == [("warning", "1 file, 4 rows; never materialized")]
    assert found["view archive"] == [("ok", "1 file, 4 rows; not served online")]
    (fresh.folder / "data" / "registry.db").unlink()
    assert checks(fresh)["registry"][0][0] == "warning"


def test_doctor_finds_sources_that_changed_since_the_last_run(own: Repository) -> None:
    file = own.folder / "data" / "routes.parquet"
    table = pq.read_table(file)
    pq.write_table(table.slice(0, 1), file)
    own.succeed("materialize", "--view", "traffic")
    pq.write_table(table, file)
    found = checks(own)["view traffic"]
    assert [status for status, _ in found] == ["ok", "warning"]
    assert "routes.parquet changed or went away since the last run" in found[1][1]


def test_doctor_counts_ties_unless_it_has_to_be_quick(own: Repository) -> None:
    file = own.folder / "data" / "routes.parquet"
    table = pq.read_table(file)
    twin = table.set_column(3, "flights", pa.array([7, 6], pa.int64()))
    pq.write_table(pa.concat_tables([table, twin]), file)
    own.succeed("materialize", "--view", "traffic")
    [_, (status, detail)] = checks(own)["view traffic"]
    assert (status, detail.partition(" two rows")[0]) == ("warning", "1 times")
    assert len(checks(own, "--quick")["view traffic"]) == 1


def test_doctor_fails_when_a_source_is_gone_and_looks_at_the_rest(own: Repository) -> None:
    (own.folder / "data" / "routes.parquet").unlink()
    found = checks(own, code=exits.ERROR)
    assert {status for status, _ in found["view traffic"]} == {"error"}
    assert found["view profile"][0][0] == "ok"


def test_doctor_fails_when_settings_registry_or_store_cannot_be_used(own: Repository) -> None:
    (own.folder / "data" / "registry.db").write_bytes(b"this is no database at all" * 100)
    assert checks(own, code=exits.ERROR)["registry"][0][0] == "error"
    own_settings = own.folder / "feature_store.yaml"
    own_settings.write_text(SETTINGS.replace("data/registry.db", "features.py/registry.db"))
    found = checks(own, code=exits.ERROR)["registry folder"]
    assert (found[0][0], "not a folder that this user may write" in found[0][1]) == ("error", True)
    own_settings.write_text(SETTINGS.replace("lmdb", "redis://127.0.0.1:1/0"))
    assert checks(own, code=exits.ERROR)["online store"][0][0] == "error"
    own_settings.write_text(SETTINGS.replace("clock", "clok"))
    [(status, detail)] = checks(own, code=exits.ERROR)["settings"]
    assert (status, "there is no setting 'clok'" in detail) == ("error", True)
