"""The manifest of a dataset: what it holds, and all that it was made from."""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from featurestore.datasets.digest import ColumnDigest

NAME: Final = "manifest.json"
MANIFEST_VERSION: Final = 1
MAX_BYTES: Final = 1 << 28
"""Of a manifest: one of a million source files has less."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=1 << 62)]
FileName = Annotated[str, Field(pattern=r"^part-[0-9]{5,7}\.parquet$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataFile(_Model):
    """One Parquet file of a dataset.

    Attributes:
        name: In the dataset's folder.
        size: Bytes.
        rows: Rows.
        sha256: Of all its bytes.
    """

    name: FileName
    size: Count
    rows: Count
    sha256: Sha256


class SourceFileFacts(_Model):
    """A file that was read.

    Attributes:
        path: Relative to the repository if it lies below it, else absolute.
        size: Bytes.
        sha256: Of all its bytes.
    """

    path: str
    size: Count
    sha256: Sha256


class SourceFacts(_Model):
    """The files that a source consisted of, in the order that decides ties."""

    name: str
    files: tuple[SourceFileFacts, ...]


class DefinitionFacts(_Model):
    """A definition that was used, as the registry writes it, with the hash of that."""

    kind: str
    name: str
    hash: str
    document: dict[str, Any]


class FunctionFacts(_Model):
    """A Python function that was called: its import path and the SHA-256 of its module."""

    function: str
    sha256: Sha256


class RequestFacts(_Model):
    """What was asked for.

    Attributes:
        service: The feature service that was asked for, or None.
        selections: Views, their features and their roles, in order.
        full_feature_names: Whether columns are called `view__feature`.
        timestamp_field: The spine's time column.
        timezone: Zone in which naive times of the spine were read.
        mode: "complete" or "as_served".
    """

    service: str | None
    selections: tuple[dict[str, Any], ...]
    full_feature_names: bool
    timestamp_field: str
    timezone: str
    mode: Literal["complete", "as_served"]


class SpineFacts(_Model):
    """The spine, whose columns are the dataset's first.

    Attributes:
        columns: How many they are.
        digest: Of these columns.
        origin: Where it came from: the text of a query, a file, the type of a table.
    """

    columns: Count
    digest: Sha256
    origin: dict[str, Any]


class ClockFacts(_Model):
    """The clock: what the settings said of it, and what it said."""

    setting: str
    now: str


class EngineFacts(_Model):
    """What computed it. Threads and memory do not change a value; they are said all the same."""

    name: str
    threads: int
    memory_bytes: int


class ColumnFacts(_Model):
    """A column: its name, its logical type and the digest of its values."""

    name: str
    type: str
    digest: Sha256


class Manifest(_Model):
    """All of `manifest.json`.

    Attributes:
        manifest_version: Of this form.
        project: The project that it belongs to.
        name: The dataset's name.
        version: Its version, from 1.
        description: For people.
        tags: Free labels.
        created_at: When, by the project's clock, RFC 3339.
        created_by: By whom.
        revision: The registry's revision that the features follow.
        request: What was asked for.
        spine: Whose features, and as of when.
        definitions: All that the features depend on, in order of dependency.
        functions: The Python functions among it.
        sources: The files that were read, by source.
        clock: The project's clock.
        engine: What computed it.
        software: Package -> version.
        platform: What kind of machine it was.
        rows: Rows.
        columns: The columns, in order.
        digest: Of the content; see `digest`.
        files: The Parquet files, in the order of their rows.
        statistics: Of the columns: a profile's document.
        validation: What became of the contracts, if they were checked: the rules of each source and
            view, with how many rows broke them.
    """

    manifest_version: Literal[1] = MANIFEST_VERSION
    project: str
    name: str
    version: Annotated[int, Field(ge=1, le=1 << 31)]
    description: str = ""
    tags: dict[str, str] = {}
    created_at: str
    created_by: str
    revision: Count
    request: RequestFacts
    spine: SpineFacts
    definitions: tuple[DefinitionFacts, ...]
    functions: tuple[FunctionFacts, ...]
    sources: tuple[SourceFacts, ...]
    clock: ClockFacts
    engine: EngineFacts
    software: dict[str, str]
    platform: dict[str, str]
    rows: Count
    columns: tuple[ColumnFacts, ...]
    digest: Sha256
    files: Annotated[tuple[DataFile, ...], Field(min_length=1)]
    statistics: dict[str, Any] | None = None
    validation: list[dict[str, Any]] | None = None

    @property
    def size(self) -> int:
        """Bytes of the Parquet files."""
        return sum(file.size for file in self.files)

    @property
    def spine_names(self) -> tuple[str, ...]:
        """Names of the spine's columns."""
        return tuple(column.name for column in self.columns[: self.spine.columns])

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the feature columns."""
        return tuple(column.name for column in self.columns[self.spine.columns :])

    def to_document(self) -> dict[str, Any]:
        """Return this as JSON-ready data."""
        return self.model_dump(mode="json")

    def to_bytes(self) -> bytes:
        """Return what is written to the file."""
        text = json.dumps(self.to_document(), indent=1, ensure_ascii=True, allow_nan=False)
        return f"{text}\n".encode("ascii")


def column_facts(columns: tuple[ColumnDigest, ...]) -> tuple[ColumnFacts, ...]:
    """Return columns as a manifest has them."""
    return tuple(ColumnFacts(name=c.name, type=c.type, digest=c.digest) for c in columns)


def hash_of(content: bytes) -> str:
    """Return the SHA-256 of a manifest, as the registry keeps it."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(content: bytes) -> Manifest:
    """Return the manifest that `to_bytes` wrote.

    Raises:
        ValueError: It is none, or one of a newer version; the message says so in one line.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON ({type(error).__name__})") from None
    if not isinstance(document, Mapping):
        raise ValueError("it is not a manifest")  # noqa: TRY004 - callers handle one error
    if document.get("manifest_version") != MANIFEST_VERSION:
        raise ValueError("a newer version of featurestore wrote it, or it is not a manifest")
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, detail["loc"]))[:100]
        raise ValueError(f"{where}: {detail['msg'][:100]}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
