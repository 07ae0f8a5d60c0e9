"""What an engine says of files that it could not read, whatever it read them with."""

from featurestore.errors import SourceError, SourceTimeError
from featurestore.offline.files import SourceFile
from featurestore.offline.ordinals import place_of
from featurestore.offline.scan import SourceScan
from featurestore.offline.scan_columns import ScanColumn
from featurestore.time import LocalSpan, format_instant, from_micros

MAX_SHOWN = 400


def unreadable(scan: SourceScan, reason: str, file: SourceFile | None) -> SourceError:
    """Return the error for files that cannot be read; `file` is the one at fault, if known."""
    if file is None and len(scan.files) == 1:
        file = scan.files[0]
    where = f" ({file.path})" if file is not None and file.path not in reason else ""
    return SourceError(
        f"Source {scan.source.name!r} cannot be read{where}: {reason}",
        source=scan.source.name,
        file=None if file is None else file.path,
        hint="write the file again, or take it away" if file is not None else None,
    )


def local_time_error(
    scan: SourceScan, column: ScanColumn, span: LocalSpan, local: int, ordinal: int
) -> SourceTimeError:
    """Return the error for a local time in `span`, which the source's policy refuses.

    Args:
        scan: The scan.
        column: The column that holds the time.
        span: Of kind "twice" or "never".
        local: The time, in microseconds of local time.
        ordinal: Of the row that holds it.
    """
    source = scan.source
    file, row = place_of(scan, ordinal)
    shown = format_instant(from_micros(local)).removesuffix("Z")
    how, setting = (
        ("occurs twice", "ambiguous='earliest' or 'latest'")
        if span.kind == "twice"
        else ("never occurs", "missing='forward'")
    )
    return SourceTimeError(
        f"Source {source.name!r}: {shown} {how} in {source.timezone}; column {column.in_file!r},"
        f" row {row} of {file.path}.",
        source=source.name,
        file=file.path,
        column=column.in_file,
        row=row,
        hint=f"store UTC, or set {setting} on the source",
    )


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line that is safe to print: it may quote a broken file."""
    line = str(error).splitlines()[0][:MAX_SHOWN] if str(error) else type(error).__name__
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
