"""How a worker's process is to use gRPC."""

import grpc
import pytest
from featurestore_server.grpc_core import is_tested, worker_environment


def test_a_worker_reads_as_it_polls_whatever_else_is_chosen() -> None:
    assert is_tested(grpc.__version__)
    known = {"A": "b"}
    chosen = worker_environment(known, grpc.__version__)
    assert chosen == {"A": "b", "GRPC_EXPERIMENTS": "-event_engine_listener"}
    assert known == {"A": "b"}
    more = worker_environment({"GRPC_EXPERIMENTS": "tcp_rcv_lowat"}, grpc.__version__)
    assert more == {"GRPC_EXPERIMENTS": "tcp_rcv_lowat,-event_engine_listener"}


@pytest.mark.parametrize("said", ["event_engine_listener", "-event_engine_listener"])
def test_what_somebody_says_of_the_event_engine_holds(said: str) -> None:
    environment = {"GRPC_EXPERIMENTS": said}
    assert worker_environment(environment, grpc.__version__) == environment


def test_a_version_that_was_not_tested_is_left_alone() -> None:
    assert worker_environment({}, "1.999.0") == {}
