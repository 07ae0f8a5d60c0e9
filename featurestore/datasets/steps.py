"""The steps of building a dataset, in order: a process may die between any two of them."""

from enum import StrEnum


class Step(StrEnum):
    """What has just become durable, or is about to."""

    STAGED = "staged"
    """The folder that it is built in is there, and locked."""
    ROWS_WRITTEN = "rows written"
    """Some rows are in a file that is not complete."""
    FILE_WRITTEN = "file written"
    """A file is complete."""
    DATA_WRITTEN = "data written"
    """All files are complete and on the disk; there is no manifest."""
    MANIFEST_WRITTEN = "manifest written"
    """The manifest is on the disk, too."""
    ANNOUNCED = "announced"
    """The registry knows the manifest's hash and what folder the dataset is built in."""
    RENAMED = "renamed"
    """The folder has the dataset's name; for the registry it is being built still."""
    RECORDED = "recorded"
    """It is a dataset."""
