"""What one thread computes and another sends."""

import weakref

import pytest
from featurestore_server.backend.outbox import Outbox

from featurestore.errors import JobCancelledError, RequestError


@pytest.mark.parametrize("order", ["taken", "never taken", "too late"])
def test_an_error_is_let_go_when_nobody_takes_any_more(order: str) -> None:
    outbox, error = Outbox(), RequestError("no")
    gone = weakref.ref(error)
    if order == "too late":
        outbox.close()
    outbox.finish(error)
    del error
    if order == "taken":
        with pytest.raises(RequestError) as raised:
            list(outbox)
        del raised
    if order != "too late":
        outbox.close()
    assert gone() is None
    with pytest.raises(JobCancelledError):
        list(outbox)
