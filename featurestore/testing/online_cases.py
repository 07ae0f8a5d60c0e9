"""What all parts of the conformance suite of online stores share."""

import uuid
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest

from featurestore.errors import StoreError
from featurestore.online.store import OnlineStore, TableId
from featurestore.testing.online_pairs import Opener


class StoreFixtures:
    """Provide a fixture `opener`; see `featurestore.testing.online`."""

    @pytest.fixture
    def opener(self) -> Opener | None:
        """How to open the same store again; None for a store that is not shared."""
        return None

    @pytest.fixture
    def store(self, opener: Opener | None) -> Iterator[OnlineStore]:
        assert opener is not None, "give the suite a fixture `opener`"
        with closing(opener()) as opened:
            yield opened

    @pytest.fixture
    def table(self, store: OnlineStore) -> Iterator[TableId]:
        """A table that no other test has."""
        made = TableId(project=f"p{uuid.uuid4().hex}", view="view", generation=1)
        yield made
        with suppress(StoreError):  # the test may have closed the store
            store.drop(made)
