"""What every online store must do: subclass `OnlineStoreConformance` (needs pytest).

    class TestMyStore(OnlineStoreConformance):
        @pytest.fixture
        def opener(self, tmp_path: Path) -> Opener:
            return partial(MyStore, tmp_path)

`opener` opens the same store each time it is called. If other processes are to see what one wrote
(`capabilities.shared`), it has to survive the way to a spawned process, as a partial of a class
does. A fixture `store` may be given instead for a store that is not shared.
"""

from featurestore.testing.online_pairs import KEY, Opener, read, row, write
from featurestore.testing.online_rows import StoredRowsConformance
from featurestore.testing.online_tables import TablesConformance
from featurestore.testing.online_versions import NewestWinsConformance, RemainingTimeConformance
from featurestore.testing.online_writers import ClosingConformance, WritersConformance

__all__ = ["KEY", "OnlineStoreConformance", "Opener", "read", "row", "write"]


class OnlineStoreConformance(
    StoredRowsConformance,
    NewestWinsConformance,
    RemainingTimeConformance,
    TablesConformance,
    WritersConformance,
    ClosingConformance,
):
    """All promises; provide a fixture `opener`."""
