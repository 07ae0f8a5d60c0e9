"""Configuration and definition files that cannot be used: who is to blame, and what to do."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from featurestore.config import MAX_FILE_BYTES, load_config, make_config
from featurestore.errors import ConfigError, DefinitionError, DestructiveChangeError, RequestError
from featurestore.repository import load_definitions
from featurestore.store import FeatureStore
from tests.unit.projects import FILE, project, rows, says, spine, view, write

MINIMAL = "project: plant\n"
FEATURES = """
from featurestore import Entity, FeatureView, Field, FileSource
from featurestore.types import Float64, Int64

sensor = Entity(name="sensor", join_keys={"k": Int64})
readings = FileSource(name="readings", path="data.parquet", timestamp_field="t")
reading = FeatureView(
    name="reading", entities=[sensor], source=readings, schema=[Field(name="x", dtype=Float64)]
)
"""


def refused(root: Path, text: str | bytes, **environment: str) -> ConfigError:
    """Return the error that a feature_store.yaml leads to."""
    file = root / "feature_store.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(root, environment=environment)
    return caught.value


# --- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [".", "nowhere", "nowhere/deeper", "a_file"])
def test_a_missing_file_is_named_with_where_to_go(tmp_path: Path, path: str) -> None:
    (tmp_path / "a_file").write_text("")
    with pytest.raises(ConfigError) as caught:
        FeatureStore(tmp_path / path)
    assert says(caught.value, "no feature_store.yaml", str(tmp_path / path), "featurestore init")


@pytest.mark.parametrize("path", ["a\0b", "\ud800", "x" * 300])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FeatureStore(path)
    assert says(caught.value, "cannot be read", hint=False)


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").mkdir()
    with pytest.raises(ConfigError) as caught:
        FeatureStore(tmp_path)
    assert says(caught.value, "feature_store.yaml", "cannot be read", "directory", hint=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("project: [", "not YAML"),
        ("project: plant\n\tclock: x", "line 2"),
        ("a: b: c", "line 1"),
        ("project: *y", "undefined alias"),
        ("!!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("[" * 1_000, "feature_store.yaml"),
        ("clock: 2024-02-30", "day is out of range"),
        ("project: plant\nclock: system\nproject: shop", "line 3: 'project' is there twice"),
        ("project: plant\nserver:\n  tls: {key: a, key: b}", "line 3: 'key' is there twice"),
        (b"\xff\xfe\x00", "cannot be read"),
        ("\0", "not YAML"),
        ("", "holds no settings"),
        ("- project", "holds no settings"),
        ("just text", "holds no settings"),
        ("5: plant", "holds no settings"),
        ("x" * (MAX_FILE_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_yaml_of_settings_is_refused(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    error = refused(tmp_path, text)
    assert says(error, "feature_store.yaml", words, hint=bool(error.hint))


def test_settings_that_hold_themselves_are_refused(tmp_path: Path) -> None:
    for key in ("registry", "anything", "online_store"):
        error = refused(tmp_path, f"{MINIMAL}{key}: &x\n  path: *x\n  deeper: *x\n")
        assert key in str(error)


# --- settings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "key", "hint"),
    [
        ("projct: plant", "'projct'", "did you mean 'project'"),
        ("onlin_store: lmdb", "'onlin_store'", "did you mean 'online_store'"),
        ("online_store: {typ: lmdb}", "'online_store.typ'", "did you mean 'type'"),
        ("server: {adress: x}", "'server.adress'", "did you mean 'address'"),
        ("server: {tls: {certificat: x}}", "'server.tls.certificat'", "did you mean 'certificate'"),
        ("registry: {zzz: x}", "'registry.zzz'", "path, type"),
        ("zzz: x", "'zzz'", "offline_store, online_store"),
    ],
)
def test_an_unknown_setting_is_named_with_what_looks_like_it(
    tmp_path: Path, line: str, key: str, hint: str
) -> None:
    error = refused(tmp_path, line if line.startswith("projct") else f"{MINIMAL}{line}\n")
    assert says(error, "feature_store.yaml", key, hint)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("online_store: postgres", "online_store.type: Input should be 'lmdb', 'redis'"),
        ("online_store: 5", "online_store"),
        ("online_store:", "online_store"),
        ("online_store: [lmdb]", "online_store"),
        ("online_store: {timeout_ms: soon}", "online_store.timeout_ms: 'soon' is not a duration"),
        ("online_store: {timeout_ms: 0}", "online_store.timeout_ms"),
        ("online_store: {timeout_ms: -5}", "online_store.timeout_ms"),
        ("online_store: {timeout_ms: 250us}", "online_store.timeout_ms"),
        ("online_store: {timeout_ms: 999999999999999d}", "online_store.timeout_ms"),
        ("offline_store: spark", "offline_store.type"),
        ("offline_store: {threads: 0}", "offline_store.threads"),
        ("offline_store: {threads: many}", "offline_store.threads"),
        ("offline_store: {memory_limit: lots}", "'lots' is not an amount of memory"),
        ("offline_store: {memory_limit: 4}", "offline_store.memory_limit"),
        ('offline_store: {memory_limit: "1\'; SET x"}', "is not an amount of memory"),
        ("server: {workers: 0}", "server.workers"),
        ("server: {threads: x}", "server.threads"),
        ("server: {max_entities: 0}", "server.max_entities"),
        ("server: {insecure: perhaps}", "server.insecure"),
        ("server: {tls: yes}", "server.tls"),
        ("server: {tls: {key: a.key}}", "'server.tls.certificate' is missing"),
        ("server: {http_address: [x]}", "server.http_address"),
        ("server: {http_cors_origins: [example.com]}", "such as https://app.example.com"),
        ('server: {http_cors_origins: ["https://a.example/path"]}', "server.http_cors_origins"),
        ("definitions: 5", "definitions"),
        ("definitions: [5]", "definitions.0"),
        ("registry: postgresql://host/db", "registry.path: the registry is a SQLite file"),
        ("clock: yesterday", "clock: 'yesterday' is not an RFC 3339 instant"),
        ("clock: 25:00", "clock"),
        ("clock: {now: 1}", "clock"),
        ("clock: 0001-01-01T00:00:00+14:00", "clock"),
        ("project: 5", "project"),
        ("project: a__b", "project: 'a__b' cannot be a name"),
        ("project: ''", "project: '' cannot be a name"),
    ],
)
def test_an_unusable_value_is_refused_by_key_and_file(
    tmp_path: Path, line: str, words: str
) -> None:
    text = line if line.startswith("project") else f"{MINIMAL}{line}\n"
    error = refused(tmp_path, text)
    assert says(error, "feature_store.yaml", words, hint=False)


def test_a_missing_project_is_asked_for(tmp_path: Path) -> None:
    assert says(refused(tmp_path, "clock: system"), "'project' is missing", "project: my_project")


def test_the_environment_names_parts_of_parts(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(f"{MINIMAL}server: {{workers: 2}}\n")
    config = load_config(
        tmp_path,
        environment={
            "FEATURESTORE_SERVER__TLS__CERTIFICATE": "server.pem",
            "FEATURESTORE_SERVER__TLS__CLIENT_CA": "/etc/ca.pem",
        },
    )
    files = config.tls_files()
    assert files is not None
    assert files.certificate == files.key == tmp_path / "server.pem"
    assert files.client_ca == Path("/etc/ca.pem")
    assert config.origins["server.tls.client_ca"] == "$FEATURESTORE_SERVER__TLS__CLIENT_CA"
    assert config.settings.server.workers == 2


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FEATURESTORE_PROJECT", "1x", "project: '1x'"),
        ("FEATURESTORE_CLOCK", "yesterday", "clock: 'yesterday'"),
        ("FEATURESTORE_ONLINE_STORE", "postgres", "online_store.type"),
        ("FEATURESTORE_ONLINE_STORE__TYPE", "postgres", "online_store.type"),
        ("FEATURESTORE_ONLINE_STORE__TIMEOUT_MS", "x", "online_store.timeout_ms"),
        ("FEATURESTORE_ONLINE_STORE__TYP", "lmdb", "did you mean 'type'"),
        ("FEATURESTORE_SERVER__WORKERS__X", "1", "'server.workers.x'"),
        ("FEATURESTORE_PROJECT__X", "1", "'project' has no parts"),
        ("FEATURESTORE_SERVER__TLS__KEYS", "a.key", "did you mean 'key'"),
        ("FEATURESTORE_OFFLINE_STORE__THREADS", "0", "offline_store.threads"),
        ("FEATURESTORE_REGISTRY", "mysql://x", "registry.path"),
    ],
)
def test_the_environment_is_blamed_for_what_it_says(
    tmp_path: Path, variable: str, value: str, words: str
) -> None:
    text = f"{MINIMAL}clock: system\nonline_store: {{type: lmdb, timeout_ms: 5}}\n"
    error = refused(tmp_path, text, **{variable: value})
    assert str(error).startswith(f"${variable}: ")
    assert words in str(error)


def test_the_file_is_blamed_where_the_environment_says_something_else(tmp_path: Path) -> None:
    error = refused(tmp_path, f"{MINIMAL}clock: x\n", FEATURESTORE_PROJECT="other")
    assert str(error).startswith(str(tmp_path / "feature_store.yaml"))


def test_the_environment_overrides_the_file_and_says_so(tmp_path: Path) -> None:
    file = tmp_path / "feature_store.yaml"
    file.write_text(f"{MINIMAL}online_store: {{type: memory, timeout_ms: 1s}}\nregistry: a.db\n")
    environment = {
        "FEATURESTORE_PROJECT": "other",
        "FEATURESTORE_ONLINE_STORE": "redis://host:1",
        "FEATURESTORE_ONLINE_STORE__TIMEOUT_MS": "250ms",
        "FEATURESTORE_DEFINITIONS": "a.py,b/*.py",
        "FEATURESTORE_NOBODY_KNOWS": "x",  # such as a cluster sets for a service of that name
        "FEATURESTORE_PORT": "tcp://10.0.0.1:6566",
    }
    config = load_config(tmp_path, environment=environment)
    assert config.settings.project == "other"
    assert config.settings.online_store.url == "redis://host:1"
    assert config.settings.online_store.timeout_ms == 250
    assert config.settings.definitions == ("a.py", "b/*.py")
    assert config.origins == {
        "project": "$FEATURESTORE_PROJECT",
        "online_store.type": "$FEATURESTORE_ONLINE_STORE",
        "online_store.url": "$FEATURESTORE_ONLINE_STORE",
        "online_store.timeout_ms": "$FEATURESTORE_ONLINE_STORE__TIMEOUT_MS",
        "definitions": "$FEATURESTORE_DEFINITIONS",
        "registry.path": str(file),
    }


def test_a_store_that_lacks_its_address_says_so(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows())
    with project(tmp_path, online_store="redis") as store:
        store.apply([view()])
        with pytest.raises(ConfigError, match=r"online_store\.url is not set"):
            store.materialize()


@pytest.mark.parametrize("clock", ["", "now", 5, datetime, object()])
def test_a_clock_that_is_none_is_refused(tmp_path: Path, clock: Any) -> None:
    with pytest.raises(RequestError, match="instant") as caught:
        FeatureStore(tmp_path, config={"project": "plant"}, clock=clock)
    assert says(caught.value, hint=bool(caught.value.hint))


@pytest.mark.parametrize("bound", ["", "tomorrow", "2024-13-01", 5])
def test_a_bound_that_is_no_instant_is_refused(tmp_path: Path, bound: Any) -> None:
    write(tmp_path / FILE, rows())
    calls: list[Any] = [
        lambda store: store.materialize(bound),
        lambda store: store.materialize(end=bound),
        lambda store: store.materialize_incremental(bound),
    ]
    with project(tmp_path) as store:
        store.apply([view()])
        for call in calls:
            with pytest.raises(RequestError, match="instant"):
                call(store)


# --- definition files --------------------------------------------------------------------------


def failure(root: Path, text: str | bytes, name: str = "features.py") -> DefinitionError:
    """Return the error that a definition file leads to."""
    (root / "feature_store.yaml").write_text(MINIMAL)
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DefinitionError) as caught:
        FeatureStore(root).plan()
    return caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nraise ValueError('boom')", "features.py, line 2: ValueError: boom"),
        ("def f():\n    1 / 0\n\n\nf()", "features.py, line 2: ZeroDivisionError"),
        ("import nowhere_to_be_found", "line 1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)", "features.py, line 2: "),
        ("x = = 1", "features.py, line 1: invalid syntax"),
        ("def f(:\n  pass", "features.py, line 1"),
        (b"\xff\xfe", "features.py"),
        (b"x = 1\0", "features.py"),
        (
            FEATURES.replace("join_keys", "join_key"),
            "line 5: Entity 'sensor': there is no argument",
        ),
        (FEATURES.replace('"reading"', '"../x"'), "features.py, line 7: FeatureView '../x'"),
        (FEATURES.replace("Float64", "float64"), "features.py, line"),
        ("import features_of_others", "features_of_others.py, line 1: invalid syntax"),
    ],
)
def test_a_definition_file_that_fails_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, words: str
) -> None:
    (tmp_path / "features_of_others.py").write_text("x = = 1")
    assert words in str(failure(tmp_path, text))


@pytest.mark.parametrize("text", ["", "# nothing", "x = 5", "views = []", "def make(): ..."])
def test_a_definition_file_that_defines_nothing_is_refused(tmp_path: Path, text: str) -> None:
    assert says(failure(tmp_path, text), "Nothing is defined", "features.py", "Entity(...)")


def test_no_definition_file_is_an_error_that_names_the_patterns(tmp_path: Path) -> None:
    (tmp_path / "feature_store.yaml").write_text(MINIMAL)
    (tmp_path / "features.py").mkdir()
    with pytest.raises(DefinitionError) as caught:
        FeatureStore(tmp_path).plan()
    assert says(caught.value, str(tmp_path), "features.py, features/**/*.py", "write features.py")


@pytest.mark.parametrize("pattern", ["/etc/*.py", "", "a\0b"])
def test_a_pattern_that_is_none_is_refused(tmp_path: Path, pattern: str) -> None:
    config = make_config({"project": "plant", "definitions": pattern}, root=tmp_path)
    with pytest.raises((ConfigError, DefinitionError)) as caught:
        load_definitions(config)
    assert says(caught.value, "definitions" if pattern == "/etc/*.py" else "")


def test_emptying_the_file_deletes_nothing(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows())
    (tmp_path / "feature_store.yaml").write_text(MINIMAL)
    (tmp_path / "features.py").write_text(FEATURES)
    with FeatureStore(tmp_path) as store:
        store.apply()
        (tmp_path / "features.py").write_text("")
        with pytest.raises(DefinitionError):
            store.apply(allow_destroy=True)
        (tmp_path / "features.py").write_text(FEATURES.partition("reading =")[0])
        with pytest.raises(DestructiveChangeError) as caught:
            store.apply()
        assert caught.value.names == ("feature view reading",)
        assert says(caught.value, "reading", "allow_destroy=True")
        assert [v.name for v in store.list_feature_views()] == ["reading"]


def test_two_files_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    (tmp_path / "features").mkdir()
    (tmp_path / "features/b.py").write_text(FEATURES.replace('"k": Int64', '"k": Float64'))
    error = failure(tmp_path, FEATURES)
    assert "features/b.py" in str(error)
    (tmp_path / "features/b.py").write_text(FEATURES.replace('"k": Int64', '"j": Int64'))
    assert says(failure(tmp_path, FEATURES), "two different definitions", "'sensor'")


def test_a_virtual_environment_in_the_repository_survives(tmp_path: Path) -> None:
    site = tmp_path / ".venv/lib/site-packages"
    site.mkdir(parents=True)
    (site / "installed.py").write_text("import itertools\nids = itertools.count()\n")
    (tmp_path / "mine.py").write_text("")
    features = f"import installed, mine\nnext(installed.ids)\n{FEATURES}"
    (tmp_path / "features.py").write_text(features)
    (tmp_path / "feature_store.yaml").write_text(MINIMAL)
    code = (
        f"import sys; sys.path.append({str(site)!r})\n"
        "from featurestore.store import FeatureStore\n"
        "from featurestore.repository import load_definitions\n"
        f"load_definitions(FeatureStore({str(tmp_path)!r}).config)\n"
        "print('installed' in sys.modules, 'mine' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert run.stdout.split() == ["True", "False"]


def test_a_repository_that_was_applied_still_trains(tmp_path: Path) -> None:
    write(tmp_path / FILE, rows())
    (tmp_path / "feature_store.yaml").write_text(f"{MINIMAL}online_store: memory\n")
    (tmp_path / "features.py").write_text(FEATURES)
    with FeatureStore(tmp_path) as store:
        store.apply()
        (tmp_path / "features.py").write_text("raise SystemExit")  # only plan and apply run it
        table = store.get_historical_features(spine(1), ["reading:x"]).to_arrow()
        assert table["x"].to_pylist() == [1.0]


def test_arguments_of_the_online_store_hold_in_any_folder(tmp_path: Path) -> None:
    chosen = {"type": "redis", "url": "rediss://a", "tls_ca": "ca.pem", "password": "hunter2"}
    config = make_config({"project": "plant", "online_store": chosen}, root=tmp_path)
    found = config.online_store_arguments()
    assert found["tls_ca"] == str(tmp_path / "ca.pem")
    assert found["path"] == str(tmp_path / "data/online")
    assert (found["url"], found["password"], found["tls_key"]) == ("rediss://a", "hunter2", None)
    assert "hunter2" not in repr(config)
