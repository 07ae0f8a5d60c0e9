"""What the registry knows of a dataset: enough to notice that its manifest is another one."""

from collections.abc import Iterable
from dataclasses import dataclass

from featurestore.errors import DatasetExistsError


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetRecord:
    """One version of a dataset.

    Attributes:
        name: Its name.
        version: Counts up from 1.
        building: The folder that it is built in, if its build is not over; None if it is.
        manifest_hash: SHA-256 of the manifest's bytes, 64 hexadecimal digits.
        digest: Of its content, 64 hexadecimal digits.
        rows: Rows.
        size: Bytes of its files, the manifest's not counted.
        revision: The registry's revision that its features follow.
        created_us: When it was made, microseconds since the epoch.
        created_by: Who made it.
    """

    name: str
    version: int
    building: str | None
    manifest_hash: str
    digest: str
    rows: int
    size: int
    revision: int
    created_us: int
    created_by: str


def check_new_name(name: str, known: Iterable[DatasetRecord]) -> None:
    """Return if a dataset may have this name beside those that there are.

    Raises:
        DatasetExistsError: Another one's name differs only by case.
    """
    for other in {record.name for record in known} - {name}:
        if other.casefold() == name.casefold():
            raise DatasetExistsError(
                f"There is a dataset {other!r} already, and {name!r} differs only by case.",
                dataset=name,
                hint=f"choose another name, or make a new version of {other!r}",
            )
