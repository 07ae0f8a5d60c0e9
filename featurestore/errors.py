"""Every error this package raises on purpose.

FeatureStoreError
├── DefinitionError            a definition breaks a rule, or contradicts another one
├── ConfigError                feature_store.yaml or the environment says something unusable
│   └── CertificateError       a file of a certificate or key cannot be used
├── NotFoundError              a view, feature, service, entity or source that is not registered
├── RequestError               the caller's request is wrong: it fails before any work
│   ├── TableError             a table that was given, by column and row
│   │   ├── SpineError         the entity table: a missing column, a wrong type, an ambiguous time
│   │   └── RowsError          rows to write: a missing column, a wrong type, a null key
│   ├── AppendError            rows cannot be added to a source: it is one file, or partitioned
│   ├── NameCollisionError     two result columns would share one name
│   ├── SumOverflowError       a sum over a window is beyond its type
│   └── EntityValueError       an online key or request field: missing, unknown, of a wrong type
├── SourceError                a source's files: missing, broken, of the wrong shape
│   ├── SourceSchemaError      a column that is missing or of the wrong type in one file
│   ├── SourceTimeError        a local time that occurs twice or never
│   ├── SourceChangedError     a file changed while it was read (retryable)
│   └── SourceOutsideRootsError  a file lies where this process reads nothing
├── RegistryError              the registry cannot be read or written
│   ├── RegistryConflictError  somebody else applied first (retryable)
│   ├── RegistryVersionError   the registry was written by a newer version
│   └── DestructiveChangeError the plan deletes objects and nobody allowed it
├── ContractError              rows break a rule whose policy is to fail: nothing was made of them
├── LeaseHeldError             another run of this view is under way (retryable)
├── ResumeError                an interrupted materialization cannot be continued
├── StoreError                 the online store answered, and the answer is an error
│   ├── StoreUnavailableError  the online store cannot be reached (retryable)
│   └── StoreDataError         a stored row cannot be decoded
├── ComputationError           an on-demand feature has no value for a row: overflow, x // 0
├── FunctionError              a Python function of an on-demand view
│   ├── FunctionLoadError      it cannot be loaded: no root, no such module, or the module fails
│   │   └── FunctionChangedError   its module is not the one that was applied
│   └── FunctionCallError      it failed for some rows, or returned something else than declared
├── JobCancelledError          a job was ended before it was done
├── ResourceLimitError         memory or temporary space ran out
├── DatasetError               a dataset
│   ├── DatasetExistsError     one of nearly this name is there
│   ├── DatasetDamagedError    its files are not what was written
│   └── DatasetChangedError    it cannot be rebuilt: what it was made from is not there any more
├── OutputError                a result cannot be written: disk full, no permission
├── VerificationError          nothing could be compared, or the comparison found a defect
├── UnsupportedError           the chosen backend cannot do this
└── MissingExtraError          an optional dependency is not installed

Facts are attributes, so that a caller need not read the message. Core errors know no protocol:
the command line maps them to exit codes, the server to gRPC status codes.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MAX_SHOWN_NAME = 120


class FeatureStoreError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: What happened, where, in one or two sentences.
        hint: What to do next, or None.
    """

    retryable: bool = False
    """Whether the same call may succeed later without any change by the caller."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class DefinitionError(FeatureStoreError):
    """A definition breaks a rule, or contradicts another definition."""


class ConfigError(FeatureStoreError):
    """The configuration cannot be used; the message names file or variable, and the key."""


class CertificateError(ConfigError):
    """A file of a certificate or of a key cannot be used.

    Attributes:
        file: Its path.
    """

    def __init__(self, message: str, *, file: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.file = file


class NotFoundError(FeatureStoreError):
    """Something asked for by name is not registered.

    Attributes:
        kind: "feature view", "feature", "feature service", "entity", "source" or "project".
        name: What was asked for.
        suggestions: Registered names that look like it, best first.
    """

    def __init__(self, kind: str, name: str, *, known: Iterable[str] = (), where: str = "") -> None:
        self.kind = kind
        self.name = name
        self.suggestions = close_names(name, known)
        message = f"There is no {kind} {shown(name)}{where}."
        super().__init__(message, hint=did_you_mean(self.suggestions))


class RequestError(FeatureStoreError):
    """The request itself is wrong; nothing was done."""


class TableError(RequestError):
    """A table that was given cannot be used.

    Attributes:
        column: The column at fault, or None.
        row: Its first row at fault (0-based), or None.
    """

    def __init__(
        self,
        message: str,
        *,
        column: str | None = None,
        row: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.column = column
        self.row = row


class SpineError(TableError):
    """The entity table cannot be used."""


class RowsError(TableError):
    """Rows that an application writes cannot be taken; none of them was written.

    Columns are called what the source's files call them.
    """


class AppendError(RequestError):
    """Rows cannot be added to a source as another file of it; nothing was written.

    Attributes:
        source: Name of the source.
    """

    def __init__(self, message: str, *, source: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.source = source


class NameCollisionError(RequestError):
    """Two columns of the result would share one name (case is ignored)."""

    def __init__(self, message: str, *, names: Sequence[str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.names = tuple(names)


class SumOverflowError(RequestError):
    """A sum over a window is beyond the type that sums of its column have; there is no result.

    Attributes:
        feature: Name of the feature in its view.
        dtype: The type that cannot hold the sum.
        row: A spine row that asks for it (0-based); None when a materialization did.
    """

    def __init__(self, *, feature: str, dtype: str, row: int | None = None) -> None:
        self.feature = feature
        self.dtype = dtype
        self.row = row
        where = "" if row is None else f", spine row {row}"
        super().__init__(
            f"Feature {shown(feature)}{where}: the sum is beyond {dtype}.",
            hint="give the aggregation dtype=Float64, or a shorter window",
        )


class EntityValueError(RequestError):
    """A join key or request field of an online request is missing, unknown or of the wrong type.

    Attributes:
        field: The key or field at fault.
        row: The first entity at fault (0-based), or None when the whole column is.
        suggestions: Expected fields that look like an unknown one.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str,
        row: int | None = None,
        suggestions: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint or did_you_mean(suggestions))
        self.field = field
        self.row = row
        self.suggestions = tuple(suggestions)


class SourceError(FeatureStoreError):
    """A source's files cannot be read.

    Attributes:
        source: Name of the source.
        file: Path of the file at fault, or None.
    """

    def __init__(
        self, message: str, *, source: str, file: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.source = source
        self.file = file


class SourceSchemaError(SourceError):
    """A column is missing in a file, or has a type that cannot be widened to the declared one."""

    def __init__(
        self,
        message: str,
        *,
        source: str,
        column: str,
        file: str | None = None,
        expected: str | None = None,
        found: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, source=source, file=file, hint=hint)
        self.column = column
        self.expected = expected
        self.found = found


class SourceTimeError(SourceError):
    """A local time occurs twice or never in the source's time zone."""

    def __init__(
        self,
        message: str,
        *,
        source: str,
        column: str,
        row: int | None = None,
        file: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, source=source, file=file, hint=hint)
        self.column = column
        self.row = row


class SourceChangedError(SourceError):
    """A file changed, appeared or went away while a run read it."""

    retryable = True


class SourceOutsideRootsError(SourceError):
    """A source has files outside the folders below which this process reads sources."""

    def __init__(self, *, source: str) -> None:
        super().__init__(
            f"Source {source!r} has files outside the folders that this server reads.",
            source=source,
            hint="whoever runs the server can add a folder to server.backend.source_roots",
        )


class RegistryError(FeatureStoreError):
    """The registry cannot be read or written."""


class RegistryConflictError(RegistryError):
    """The registry's revision moved between plan and apply.

    Attributes:
        expected: The revision the plan was made from.
        found: The revision the registry has now.
    """

    retryable = True

    def __init__(self, *, project: str, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"Project {project!r} moved from revision {expected} to {found} since the plan was"
            " made; nothing was applied.",
            hint="make the plan again and apply that",
        )


class RegistryVersionError(RegistryError):
    """The registry was written by a newer version of this package."""


class DestructiveChangeError(RegistryError):
    """The plan deletes registered objects, and deleting was not allowed."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        super().__init__(
            f"This would delete {', '.join(self.names)}; nothing was applied.",
            hint="define them again, or allow it with --allow-destroy (allow_destroy=True)",
        )


class ContractError(FeatureStoreError):
    """Rows break rules of a source's or view's contract whose policy is to fail; nothing was made.

    Attributes:
        rules: The broken rules, as `object.rule`.
    """

    def __init__(self, message: str, *, rules: Sequence[str], hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.rules = tuple(rules)


class LeaseHeldError(FeatureStoreError):
    """Another materialization of the same view holds its lease.

    Attributes:
        view: The view.
        holder: Who holds the lease.
        expires_in_s: Seconds until the lease ends unless it is renewed.
        held_for_s: Seconds since it was taken; None if nobody knows.
    """

    retryable = True

    def __init__(
        self, *, view: str, holder: str, expires_in_s: float, held_for_s: float | None = None
    ) -> None:
        self.view = view
        self.holder = holder
        self.expires_in_s = expires_in_s
        self.held_for_s = held_for_s
        age = "" if held_for_s is None else f", for {held_for_s:.0f} s by now"
        super().__init__(
            f"View {view!r} is being materialized by {holder}{age}.",
            hint=f"try again when it is done; a dead run's lease ends in {expires_in_s:.0f} s",
        )


class ResumeError(FeatureStoreError):
    """An interrupted materialization cannot be continued; a new run is needed.

    Attributes:
        view: The view.
        reason: What changed since it began.
    """

    def __init__(self, *, view: str, reason: str) -> None:
        self.view = view
        self.reason = reason
        super().__init__(
            f"The interrupted run of view {view!r} cannot be resumed: {reason}.",
            hint="start a new run, without --resume",
        )


class StoreError(FeatureStoreError):
    """The online store answered with an error."""


class StoreUnavailableError(StoreError):
    """The online store cannot be reached, or did not answer in time."""

    retryable = True


class StoreDataError(StoreError):
    """A stored row is not what the view's schema says; it was not served."""


class ComputationError(FeatureStoreError):
    """An on-demand feature has no value for a row: an integer overflow, a division by zero.

    Attributes:
        feature: As in "view:feature".
        row: The row of the spine, or the entity of the request (0-based).
        reason: What happened.
    """

    def __init__(self, *, feature: str, row: int, reason: str) -> None:
        self.feature = feature
        self.row = row
        self.reason = reason
        super().__init__(
            f"On-demand feature {feature!r} cannot be computed for row {row}: {reason}.",
            hint="guard the expression, for instance with nullif(), try_cast() or CASE",
        )


class FunctionError(FeatureStoreError):
    """A Python function of an on-demand view cannot be used.

    Attributes:
        function: Its import path, as in "package.module:name".
    """

    def __init__(self, message: str, *, function: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.function = function


class FunctionLoadError(FunctionError):
    """A function cannot be loaded: no root is configured, there is no such module, or it fails.

    Attributes:
        file: The module's file, or None when there is none.
    """

    def __init__(
        self, message: str, *, function: str, file: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, function=function, hint=hint)
        self.file = file


class FunctionChangedError(FunctionLoadError):
    """A function's module is not the one that was applied; nothing of it was run.

    Attributes:
        expected: The SHA-256 of the module that was applied, 64 hexadecimal digits.
        found: That of the file which is there.
    """

    def __init__(self, *, function: str, file: str, expected: str, found: str) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"Function {function!r}: {file} is not the module that was applied: its SHA-256 is"
            f" {found}, and the registry has {expected}.",
            function=function,
            file=file,
            hint="apply again if the change is meant, or put back the file that was applied",
        )


class FunctionCallError(FunctionError):
    """A function failed for some rows, or returned something else than its view declares.

    Attributes:
        view: The on-demand view.
        first_row: The first row of the spine, or entity of the request, it was called for.
        last_row: The last of them.
        reason: What happened.
    """

    def __init__(
        self, *, view: str, function: str, first_row: int, last_row: int, reason: str
    ) -> None:
        self.view = view
        self.first_row = first_row
        self.last_row = last_row
        self.reason = reason
        rows = f"row {first_row}" if first_row == last_row else f"rows {first_row} to {last_row}"
        super().__init__(
            f"Function {function!r} of on-demand feature view {view!r}, {rows}: {reason}.",
            function=function,
            hint="it may be called with any number of rows, nulls among them; correct it and apply",
        )


class JobCancelledError(FeatureStoreError):
    """A job was ended before it was done, by `cancel()`; it left nothing behind."""

    def __init__(self) -> None:
        super().__init__("The job was cancelled; there is no result.", hint="ask for it again")


class ResourceLimitError(FeatureStoreError):
    """The memory limit or the space for temporary files was not enough."""


class DatasetError(FeatureStoreError):
    """Something is wrong with a dataset.

    Attributes:
        dataset: Its name.
        version: Its version, or None.
    """

    def __init__(
        self, message: str, *, dataset: str, version: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.dataset = dataset
        self.version = version


class DatasetExistsError(DatasetError):
    """A dataset has nearly this name, so that one would be taken for the other."""


class DatasetDamagedError(DatasetError):
    """Files of a dataset are not what was written; nothing of it was returned.

    Attributes:
        faults: What is wrong with which file, each in a line.
    """

    def __init__(self, *, dataset: str, version: int, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        more = f" (and {len(faults) - 1:,} more)" if len(faults) > 1 else ""
        super().__init__(
            f"Dataset {dataset!r}, version {version}, is damaged: {faults[0]}{more}.",
            dataset=dataset,
            version=version,
            hint=f"see all that is wrong: featurestore dataset verify {dataset}"
            f" --version {version}; restore its files from a backup, or create it again",
        )


class DatasetChangedError(DatasetError):
    """A dataset cannot be rebuilt, because something that it was made from is not there any more.

    Attributes:
        changes: What changed since it was made, each in a line.
    """

    def __init__(
        self, *, dataset: str, version: int, reason: str, changes: Sequence[str] = ()
    ) -> None:
        self.changes = tuple(changes)
        listed = "".join(f" {change}." for change in self.changes[:5])
        super().__init__(
            f"Dataset {dataset!r}, version {version}, cannot be rebuilt: {reason}.{listed}",
            dataset=dataset,
            version=version,
            hint="put back what it was made from; its files are as they were",
        )


class OutputError(FeatureStoreError):
    """A result file cannot be written; nothing was left at its final name."""


class VerificationError(FeatureStoreError):
    """There was nothing to compare, or offline and online differ without an excuse."""


class UnsupportedError(FeatureStoreError):
    """The backend cannot do this, and says so before doing any work."""


class MissingExtraError(FeatureStoreError):
    """An optional dependency is not installed."""

    def __init__(self, *, package: str, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed.",
            hint=f"pip install 'featurestore[{extra}]'",
        )


def close_names(name: str, known: Iterable[str], *, count: int = 3) -> tuple[str, ...]:
    """Return up to `count` of the `known` names that look like `name`, best first."""
    by_lower = {k.lower(): k for k in known}
    found = get_close_matches(name.lower()[:MAX_SHOWN_NAME], by_lower, n=count, cutoff=0.6)
    return tuple(by_lower[f] for f in found)


def did_you_mean(suggestions: Sequence[str]) -> str | None:
    """Return `did you mean 'a' or 'b'?`, or None without suggestions."""
    if not suggestions:
        return None
    return f"did you mean {' or '.join(repr(s) for s in suggestions)}?"


def shown(name: str) -> str:
    """Return `name` quoted, escaped and cut to a length that fits a message."""
    text = repr(name[:MAX_SHOWN_NAME])
    return text if len(name) <= MAX_SHOWN_NAME else f"{text}... ({len(name):,} characters)"
