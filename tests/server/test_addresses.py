"""Where a server may listen, and that nobody else gets in."""

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from featurestore_server.addresses import reserve
from featurestore_server.errors import AddressError, AddressInUseError, InsecureAddressError


@pytest.fixture
def folder() -> Iterator[Path]:
    # Paths of sockets are short; those that pytest makes need not be.
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def test_port_zero_picks_a_free_port_and_says_which() -> None:
    reservation = reserve("127.0.0.1:0", workers=1, insecure=False)
    host, port = reservation.shown.rsplit(":", 1)
    assert (host, reservation.targets) == ("127.0.0.1", (reservation.shown,))
    assert int(port) > 0
    reservation.release()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_an_address_is_taken_before_anybody_listens(host: str) -> None:
    first = reserve(f"{host}:0", workers=2, insecure=False)
    with pytest.raises(AddressInUseError) as caught:
        reserve(first.shown, workers=2, insecure=False)
    assert caught.value.address == first.shown
    first.release()
    reserve(first.shown, workers=2, insecure=False).release()


def test_an_address_where_somebody_listens_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AddressInUseError):
            reserve(address, workers=1, insecure=False)


def test_a_reserved_port_takes_no_connections_itself() -> None:
    reservation = reserve("127.0.0.1:0", workers=1, insecure=False)
    port = int(reservation.shown.rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    reservation.release()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "6566",
        ":6566",
        "localhost",
        "localhost:",
        "localhost:http",
        "localhost:-1",
        "localhost:65536",
        "::1:6566",
        "host.invalid:6566",
        "a" * 300 + ":6566",
        "192.0.2.1:6566",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(AddressError):
        reserve(address, workers=1, insecure=True)


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"])
def test_an_address_that_others_can_reach_must_be_allowed(address: str) -> None:
    with pytest.raises(InsecureAddressError, match="does not encrypt") as caught:
        reserve(address, workers=1, insecure=False)
    assert "--insecure" in (caught.value.hint or "")


def test_an_address_that_others_can_reach_can_be_allowed() -> None:
    reservation = reserve("0.0.0.0:0", workers=1, insecure=True)
    assert reservation.shown.startswith("0.0.0.0:")
    reservation.release()


def test_a_unix_socket_is_shared_by_nobody(folder: Path) -> None:
    with pytest.raises(AddressError, match="2 workers cannot share"):
        reserve(f"unix:{folder}/s", workers=2, insecure=False)


@pytest.mark.parametrize("name", ["x" * 200, "missing/s"])
def test_a_path_where_no_socket_can_be_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(AddressError, match="There can be no socket"):
        reserve(f"unix:{folder}/{name}", workers=1, insecure=False)


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    path = folder / "notes"
    path.write_text("mine")
    with pytest.raises(AddressError, match="is no socket"):
        reserve(f"unix:{path}", workers=1, insecure=False)
    assert path.read_text() == "mine"


def test_a_socket_where_somebody_listens_is_taken(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(os.fspath(folder / "s"))
        other.listen()
        with pytest.raises(AddressInUseError):
            reserve(f"unix:{folder}/s", workers=1, insecure=False)
    assert stat.S_ISSOCK((folder / "s").stat().st_mode)


def test_a_socket_that_a_killed_server_left_is_replaced(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(os.fspath(folder / "s"))
    reservation = reserve(f"unix:{folder}/s", workers=1, insecure=False)
    assert reservation.targets == (f"unix:{folder}/s",)
    reservation.release()
    assert not (folder / "s").exists()
