"""What one thread computes and another sends."""

import weakref

import pytest
from featurestore_server.backend.outbox import Outbox

from featurestore.errors import RequestError


def test_an_error_is_raised_once_and_let_go() -> None:
    outbox, error = Outbox(), RequestError("no")
    gone = weakref.ref(error)
    outbox.finish(error)
    del error
    with pytest.raises(RequestError) as raised:
        list(outbox)
    del raised
    assert gone() is None
