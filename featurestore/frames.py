"""Arrow tables as the data frames of others."""

from typing import TYPE_CHECKING

from featurestore.errors import MissingExtraError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def to_pandas(table: "pa.Table") -> "pd.DataFrame":
    """Return a table as a pandas data frame with Arrow-backed types, so that nothing is changed.

    Raises:
        MissingExtraError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtraError(package="pandas", extra="pandas", purpose="to_pandas()") from None
    return table.to_pandas(types_mapper=pd.ArrowDtype)
