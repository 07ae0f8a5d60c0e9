"""What only Redis can do wrong: scripts that get lost, servers that refuse, keys of others."""

import locale
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from featurestore.errors import ConfigError, StoreError, StoreUnavailableError
from featurestore.online.redis import RedisOnlineStore
from featurestore.online.redis_commands import SCRIPT
from featurestore.online.redis_errors import PERMISSIONS
from featurestore.online.store import EncodedRows, Finding, TableId
from featurestore.online.tables import table_digest
from featurestore.testing.online import KEY, read, row, write
from tests.servers import LocalRedis, free_port, local_binary, local_redis

TABLE = TableId(project="shop", view="users", generation=1)
SECRET = "hunter2-%2F@"  # noqa: S105 - of a server of this test


@pytest.fixture(scope="module")
def server() -> Iterator[LocalRedis]:
    """A server of this module alone, which it may flush and reconfigure."""
    with local_redis(local_binary()) as started:
        yield started


@pytest.fixture
def client(server: LocalRedis) -> Iterator[redis.Redis]:
    """The server as any client sees it, empty and with its defaults."""
    with closing(redis.Redis(unix_socket_path=str(server.socket))) as made:
        made.flushall()
        made.script_flush()
        made.config_set("maxmemory", 0)
        yield made
        made.config_set("maxmemory", 0)


@pytest.fixture
def store(server: LocalRedis, client: redis.Redis) -> Iterator[RedisOnlineStore]:
    assert client.ping()  # the client's fixture empties the server
    with closing(RedisOnlineStore(server.url, timeout_ms=2_000)) as opened:
        yield opened


# --- what lies in the server ---------------------------------------------------------------------


def test_a_row_lies_under_its_tables_digest_and_its_entity_in_braces(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    write(store, TABLE, [(KEY, row(1))])
    digest = table_digest(TABLE)
    assert len(digest) == 11
    assert client.get(digest + b"{" + KEY + b"}") == row(1)
    assert client.dbsize() == 2


def test_the_catalogue_names_the_tables_of_a_project(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    second = TableId(project="shop", view="üsers *", generation=2)
    foreign = TableId(project="shop2", view="users", generation=1)
    for table in (TABLE, second, foreign, TABLE):
        write(store, table, [(KEY, row(1))])
    assert sorted(store.tables("shop"), key=str) == sorted([TABLE, second], key=str)
    assert client.hget("featurestore:catalogue:shop2", table_digest(foreign).decode()) == (
        b'["shop2", "users", 1]'
    )


def test_dropping_a_table_leaves_what_only_looks_like_it(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    write(store, TABLE, [(b"%d" % i, row(1)) for i in range(2_500)])
    digest = table_digest(TABLE)
    others = [digest, digest + b"x{a}", b"x" + digest + b"{a}", digest.lower() + b"{a}"]
    others += [digest[:-1] + b"{a}", digest + b"{a} ", b"other"]
    client.mset(dict.fromkeys(others, b"theirs"))
    assert store.count(TABLE) == 2_500
    assert store.drop(TABLE) == 2_500
    assert set(client.keys()) == set(others), "nor is it in the catalogue"


def test_a_value_that_is_too_short_to_have_a_version_gives_way(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    client.set(table_digest(TABLE) + b"{" + KEY + b"}", b"rubbish")
    assert write(store, TABLE, [(KEY, row(1))]).written == 1
    assert read(store, TABLE, KEY) == [row(1)]


def locale_with_an_order_of_its_own() -> str | None:
    """An installed locale in which text does not sort as its bytes do."""
    listed = subprocess.run(["locale", "-a"], capture_output=True, text=True, check=False)
    before = locale.setlocale(locale.LC_COLLATE)
    try:
        for name in listed.stdout.split():
            with suppress(locale.Error):
                locale.setlocale(locale.LC_COLLATE, name)
                if locale.strcoll("a", "B") < 0:
                    return name
    finally:
        locale.setlocale(locale.LC_COLLATE, before)
    return None


def test_versions_are_compared_the_same_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    if (name := locale_with_an_order_of_its_own()) is None:
        pytest.skip("every locale installed here sorts as bytes do")
    monkeypatch.setenv("LC_ALL", name)
    with local_redis(local_binary()) as server:
        _compare_all_bytes(server)


def _compare_all_bytes(server: LocalRedis) -> None:
    low = [(b"%d" % i, row(i << 32 | i, i)) for i in range(256)]
    high = [(key, row((i + 1) << 32, None)) for i, (key, _) in enumerate(low)]
    with closing(RedisOnlineStore(server.socket_url)) as store:
        write(store, TABLE, high)
        assert write(store, TABLE, low).kept == 256
        assert write(store, TABLE, high).written == 256


# --- the script ----------------------------------------------------------------------------------


def test_a_script_that_the_server_forgot_is_loaded_again(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    rows = [(b"%d" % i, row(1)) for i in range(2_000)]
    write(store, TABLE, rows)
    client.script_flush()
    assert write(store, TABLE, rows).written == 2_000
    assert write(store, TABLE, [(key, row(0)) for key, _ in rows]).kept == 2_000


def test_a_script_forgotten_while_writing_loses_no_row_and_no_order(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    done = threading.Event()

    def forget() -> None:
        # Somebody else loads it again: some of the calls under way fail, and later ones succeed.
        while not done.is_set():
            client.script_flush()
            time.sleep(0.001)
            client.script_load(SCRIPT)
            time.sleep(0.004)

    forgetful = threading.Thread(target=forget)
    forgetful.start()
    others = [(b"%d" % i, row(1)) for i in range(4_000)]
    try:
        for number in range(8):
            first, last = (KEY, row(number, None, b"first")), (KEY, row(number, None, b"last"))
            try:
                write(store, TABLE, [first, *others, last])
            except StoreError as error:
                assert "keeps dropping scripts" in str(error)  # noqa: PT017 - it may give up
                continue
            assert read(store, TABLE, KEY) == [last[1]]
            assert store.count(TABLE) == 4_001
    finally:
        done.set()
        forgetful.join()


# --- rows whose keys are free --------------------------------------------------------------------


@pytest.mark.parametrize("remaining_ms", [None, 3_600_000])
def test_rows_of_a_large_write_are_compared_where_there_is_one_already(
    store: RedisOnlineStore, remaining_ms: int | None
) -> None:
    keys = [b"%d" % i for i in range(3_000)]
    newer, older = keys[::5], keys[1::5]
    write(store, TABLE, [(k, row(3, 1, b"newer" * len(k))) for k in newer], remaining_ms=60_000)
    write(store, TABLE, [(k, row(1)) for k in older], remaining_ms=60_000)
    offered = [(k, row(2, None, b"offered" * len(k))) for k in keys]
    counts = write(store, TABLE, offered, remaining_ms=remaining_ms)
    assert (counts.written, counts.kept) == (2_400, 600)
    expected = dict(offered) | {k: row(3, 1, b"newer" * len(k)) for k in newer}
    assert read(store, TABLE, *keys) == [expected[k] for k in keys]


@pytest.mark.parametrize("remaining_ms", [None, 3_600_000])
def test_rows_of_a_large_write_live_as_long_as_they_should(
    store: RedisOnlineStore, client: redis.Redis, remaining_ms: int | None
) -> None:
    write(store, TABLE, [(b"%d" % i, row(1)) for i in range(600)], remaining_ms=remaining_ms)
    found = {client.pttl(table_digest(TABLE) + b"{%d}" % i) for i in range(600)}
    if remaining_ms is None:
        assert found == {-1}
    else:
        assert remaining_ms - 60_000 < min(found) <= max(found) <= remaining_ms


def test_only_rows_whose_keys_are_taken_go_through_the_script(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    def calls(command: str) -> int:
        return int(client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))

    rows = [(b"%d" % i, row(1)) for i in range(10_000)]
    client.config_resetstat()
    write(store, TABLE, rows)
    assert (calls("set"), calls("evalsha")) == (10_000, 0)
    client.config_resetstat()
    write(store, TABLE, [(key, row(0)) for key, _ in rows])
    # It gives up after the calls that were under way when the first was answered.
    assert calls("set") < 2_000
    assert calls("getrange") == 10_000


# --- errors --------------------------------------------------------------------------------------


def assert_fails(
    call: Callable[[], object], words: str, *, retryable: bool, kind: type[StoreError] = StoreError
) -> None:
    with pytest.raises(kind, match=words) as caught:
        call()
    assert caught.value.retryable is retryable
    assert caught.value.hint
    assert "hunter2" not in str(caught.value)


def test_a_server_that_is_not_there_is_a_retryable_error_at_once() -> None:
    with closing(RedisOnlineStore(f"redis://127.0.0.1:{free_port()}")) as store:
        started = time.monotonic()
        for call in (lambda: read(store, TABLE, KEY), lambda: write(store, TABLE, [(KEY, row(1))])):
            assert_fails(call, "cannot be reached", retryable=True, kind=StoreUnavailableError)
        assert time.monotonic() - started < 30


def test_a_socket_that_is_not_there_is_a_retryable_error(tmp_path: Path) -> None:
    with closing(RedisOnlineStore(f"unix://{tmp_path}/none")) as store:
        assert_fails(store.check, "cannot be reached", retryable=True, kind=StoreUnavailableError)


def test_a_server_that_does_not_answer_is_a_retryable_error(
    server: LocalRedis, client: redis.Redis
) -> None:
    with closing(RedisOnlineStore(server.url, timeout_ms=100)) as store:
        write(store, TABLE, [(KEY, row(1))])
        client.client_pause(1_000, all=True)
        assert_fails(lambda: read(store, TABLE, KEY), "100 ms", retryable=True)
        client.client_unpause()
        # The late reply to the first request must not be taken for that to the second.
        assert read(store, TABLE, b"\x02other") == [None]
        assert read(store, TABLE, KEY) == [row(1)]


def test_a_server_that_comes_back_is_used_again() -> None:
    port = free_port()
    with closing(RedisOnlineStore(f"redis://127.0.0.1:{port}")) as store:
        for _ in range(2):
            with local_redis(local_binary(), port=port):
                assert write(store, TABLE, [(KEY, row(1))]).written == 1
                assert read(store, TABLE, KEY) == [row(1)]
            assert_fails(lambda: read(store, TABLE, KEY), "cannot be reached", retryable=True)


def test_a_connection_that_the_server_closed_is_replaced(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    write(store, TABLE, [(KEY, row(1))])
    for _ in range(2):
        assert read(store, TABLE, KEY) == [row(1)]
        client.client_kill_filter(_type="normal", skipme=True)


def test_a_read_after_one_that_failed_gets_its_own_answer() -> None:
    with (
        local_redis(local_binary()) as started,
        closing(redis.Redis.from_url(started.url)) as other,
    ):
        store = RedisOnlineStore(started.url, timeout_ms=200)
        write(store, TABLE, [(KEY, row(1)), (b"\x02other", row(2))])
        other.client_pause(600)
        with pytest.raises(StoreUnavailableError, match="did not answer within 200 ms"):
            read(store, TABLE, KEY)
        other.ping()  # answered when the pause is over
        assert read(store, TABLE, b"\x02other") == [row(2)]
        store.close()


def test_a_store_that_was_closed_says_so(store: RedisOnlineStore) -> None:
    assert read(store, TABLE, KEY) == [None]
    store.close()
    with pytest.raises(StoreError, match="is closed"):
        read(store, TABLE, KEY)


def test_a_full_server_is_an_error_that_says_so(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    write(store, TABLE, [(KEY, row(1))])
    client.config_set("maxmemory", 1)
    many = [(b"%d" % i, row(1)) for i in range(1_000)]
    assert_fails(lambda: write(store, TABLE, many), "is full", retryable=False)
    assert read(store, TABLE, KEY) == [row(1)]
    client.config_set("maxmemory", 0)
    assert write(store, TABLE, many).written + write(store, TABLE, many).written == 2_000


def test_a_password_is_never_shown() -> None:
    with local_redis(local_binary(), "--requirepass", "hunter2-/@") as server:
        right = f"redis://default:{SECRET}@127.0.0.1:{server.port}"
        with closing(RedisOnlineStore(right.replace("%40", "@"))) as store:
            write(store, TABLE, [(KEY, row(1))])
            assert "hunter2" not in str(store.check())
        with closing(RedisOnlineStore(right.replace("hunter2", "hunter2x"))) as store:
            assert_fails(store.check, "refuses the user or password", retryable=False)
        with closing(RedisOnlineStore(server.url)) as store:
            assert_fails(store.check, "wants a password", retryable=False)


def test_a_user_without_permission_is_told_so(server: LocalRedis, client: redis.Redis) -> None:
    client.acl_setuser("reader", enabled=True, passwords=["+hunter2"], categories=["+@read"])
    url = f"redis://reader:hunter2@127.0.0.1:{server.port}"
    with closing(RedisOnlineStore(url)) as store:
        assert_fails(
            lambda: write(store, TABLE, [(KEY, row(1))]), "does not permit", retryable=False
        )


@pytest.mark.usefixtures("store")
def test_a_user_with_the_permissions_of_the_hint_can_do_everything(
    server: LocalRedis, client: redis.Redis
) -> None:
    client.execute_command("ACL", "SETUSER", "writer", "on", ">hunter2", *PERMISSIONS.split())  # type: ignore[no-untyped-call]
    with closing(RedisOnlineStore(f"redis://writer:hunter2@127.0.0.1:{server.port}")) as store:
        write(store, TABLE, [(KEY, row(1))])
        assert read(store, TABLE, KEY) == [row(1)]
        assert list(store.scan(TABLE)) == [[(KEY, row(1))]]
        assert store.tables("shop") == [TABLE]
        assert (store.count(TABLE), store.drop(TABLE)) == (1, 1)
        assert store.check()


def test_a_replica_takes_no_writes_for_now(server: LocalRedis) -> None:
    source = ("--replicaof", "127.0.0.1", str(server.port), "--replica-serve-stale-data", "yes")
    with (
        local_redis(local_binary(), *source) as replica,
        closing(RedisOnlineStore(replica.url)) as store,
    ):
        assert_fails(lambda: write(store, TABLE, [(KEY, row(1))]), "is a replica", retryable=True)
        assert _status(store.check(), "role") == "error"


def test_a_server_that_is_busy_with_a_script_is_a_retryable_error(
    store: RedisOnlineStore, server: LocalRedis, client: redis.Redis
) -> None:
    client.config_set("lua-time-limit", 5)
    endless = redis.Redis(unix_socket_path=str(server.socket), socket_timeout=30)

    def spin() -> None:
        with closing(endless), suppress(redis.ResponseError):
            endless.eval("while true do end", 0)

    spinning = threading.Thread(target=spin)
    spinning.start()
    try:
        time.sleep(0.3)
        assert_fails(lambda: read(store, TABLE, KEY), "is busy", retryable=True)
    finally:
        client.script_kill()
        spinning.join()
    assert read(store, TABLE, KEY) == [None]


def test_a_server_that_loads_its_data_is_a_retryable_error(tmp_path: Path) -> None:
    with local_redis(local_binary(), folder=tmp_path) as server:
        with closing(RedisOnlineStore(server.socket_url)) as store:
            write(store, TABLE, [(b"%d" % i, row(1)) for i in range(20_000)])
        redis.Redis(unix_socket_path=str(server.socket)).save()
    slowly = ("--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024")
    with (
        local_redis(local_binary(), *slowly, folder=tmp_path) as server,
        closing(RedisOnlineStore(server.url)) as store,
    ):
        assert_fails(lambda: read(store, TABLE, KEY), "is loading", retryable=True)


def test_a_server_that_cannot_save_takes_no_writes(tmp_path: Path) -> None:
    with (
        local_redis(local_binary(), "--save", "3600 1", folder=tmp_path) as server,
        closing(RedisOnlineStore(server.url)) as store,
        closing(redis.Redis(unix_socket_path=str(server.socket))) as client,
    ):
        (tmp_path / "dump.rdb").mkdir()
        client.set("a", "b")
        with pytest.raises(redis.ResponseError):
            client.save()
        client.bgsave()
        _wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
        write_one = partial(write, store, TABLE, [(KEY, row(1))])
        assert_fails(write_one, "cannot save its data", retryable=False)
        assert _status(store.check(), "persistence") == "error"
        client.config_set("save", "")  # else it does not end before it has saved


def test_too_few_replicas_are_a_retryable_error(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    client.config_set("min-replicas-to-write", 1)
    try:
        write_one = partial(write, store, TABLE, [(KEY, row(1))])
        assert_fails(write_one, "too few replicas", retryable=True)
    finally:
        client.config_set("min-replicas-to-write", 0)


def test_a_cluster_is_told_apart() -> None:
    with (
        local_redis(local_binary(), "--cluster-enabled", "yes") as server,
        closing(RedisOnlineStore(server.url)) as store,
        closing(redis.Redis(unix_socket_path=str(server.socket))) as client,
    ):
        assert_fails(lambda: read(store, TABLE, KEY), "cluster is down", retryable=True)
        client.cluster("ADDSLOTS", *range(16_384))
        _wait_until(lambda: client.cluster("INFO")["cluster_state"] == "ok")
        many = [b"%d" % i for i in range(50)]
        assert_fails(lambda: read(store, TABLE, *many), "is a node of a cluster", retryable=False)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_key_of_another_kind_is_an_error(store: RedisOnlineStore, client: redis.Redis) -> None:
    client.rpush((table_digest(TABLE) + b"{" + KEY + b"}").decode("latin-1"), "theirs")
    assert_fails(
        lambda: write(store, TABLE, [(KEY, row(1))]), "another kind of value", retryable=False
    )
    assert read(store, TABLE, KEY) == [None]


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "http://hunter2@localhost",
        "redis://u:hunter2@localhost:port/0",
        "redis://u:hunter2@localhost:6379/zero",
        "redis://u:hunter2@[::1/0",
        "unix://",
        "redis://:hunter2@localhost?no_such_option=1",
        "redis://:hunter2@localhost?health_check_interval=often",
        "",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="Redis URL") as caught:
        RedisOnlineStore(url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.usefixtures("client")
def test_options_in_the_url_cannot_change_what_the_store_relies_on(server: LocalRedis) -> None:
    url = f"{server.url}?decode_responses=true&protocol=2&socket_timeout=900"
    with closing(RedisOnlineStore(url)) as store:
        write(store, TABLE, [(KEY, row(1, None, b"\xff"))])
        assert read(store, TABLE, KEY) == [row(1, None, b"\xff")]


# --- self-check ----------------------------------------------------------------------------------


def _status(found: list[Finding], subject: str) -> str:
    return next(finding.status for finding in found if finding.subject == subject)


def test_the_self_check_warns_of_eviction_and_of_memory(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    before = store.check()
    assert [_status(before, s) for s in ("version", "eviction", "memory", "role", "clock")] == (
        ["ok"] * 5
    )
    assert _status(before, "persistence") == "warning"
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 100_000)
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        after = store.check()
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert (_status(after, "eviction"), _status(after, "memory")) == ("warning", "warning")


def test_the_self_check_knows_an_append_only_file() -> None:
    with (
        local_redis(local_binary(), "--appendonly", "yes") as server,
        closing(RedisOnlineStore(server.url)) as store,
    ):
        assert _status(store.check(), "persistence") == "ok"


def test_threads_share_connections_and_none_is_left_open(
    server: LocalRedis, client: redis.Redis
) -> None:
    before = len(client.client_list())
    with closing(RedisOnlineStore(server.url)) as store:
        threads = [
            threading.Thread(target=lambda: [read(store, TABLE, KEY) for _ in range(20)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(client.client_list()) <= before + 8
    deadline = time.monotonic() + 10
    while len(client.client_list()) > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_large_values_go_in_more_calls(store: RedisOnlineStore, client: redis.Redis) -> None:
    client.config_resetstat()
    write(store, TABLE, [(b"%d" % i, row(1, None, bytes(1 << 20))) for i in range(20)])
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 7
    assert store.count(TABLE) == 20


def test_a_batch_of_mixed_remaining_times_goes_to_each_row(
    store: RedisOnlineStore, client: redis.Redis
) -> None:
    keys = [b"%d" % i for i in range(600)]
    times: list[Any] = [1_000_000 + i * 1_000 for i in range(600)]
    store.write(TABLE, EncodedRows(keys=keys, values=[row(1)] * 600, remaining_ms=times))
    for i in (0, 255, 256, 599):
        left = client.pttl(table_digest(TABLE) + b"{" + keys[i] + b"}")
        assert times[i] - 60_000 < left <= times[i]
