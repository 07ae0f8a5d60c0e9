"""Which rows to look at, from what people write."""

from datetime import datetime
from typing import Final

from featurestore.errors import RequestError
from featurestore.offline.engine import RowFilter
from featurestore.time import given_micros

EVER: Final = 2**63 - 1
"""No event is later."""


def interval(start: datetime | str | None, end: datetime | str | None) -> RowFilter | None:
    """Return the rows of event times in (start, end]; None for all.

    Raises:
        RequestError: One of them is no instant, or the start is not before the end.
    """
    if start is None and end is None:
        return None
    after = given_micros(start)
    until = EVER if end is None else int(given_micros(end) or 0)
    if after is not None and after >= until:
        raise RequestError("The start is not before the end: no event is in between.")
    return RowFilter(after_us=after, until_us=until)
