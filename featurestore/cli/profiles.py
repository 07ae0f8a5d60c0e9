"""Statistics on a terminal, as JSON and as pictures: of views, sources and training sets."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from featurestore.cli.output import counted, print_heading, print_table
from featurestore.cli.progress import progress
from featurestore.cli.session import Session
from featurestore.errors import OutputError, RequestError

if TYPE_CHECKING:
    from featurestore.statistics import Profile
    from featurestore.store import FeatureStore

Svg = Annotated[
    Path | None,
    typer.Option(
        "--svg",
        metavar="FILE|DIR",
        help="Also draw: all columns into FILE.svg, or each into a file in this folder.",
    ),
]
Charts = Annotated[bool, typer.Option("--charts", help="Also print each column's chart.")]
_UNUSUAL: Final = re.compile(r"[^A-Za-z0-9_-]+")
_KINDS: Final = ("view", "source")


def describe_statistics(
    session: Session,
    store: "FeatureStore",
    kind: str,
    name: str,
    *,
    start: str | None,
    end: str | None,
    svg: Path | None,
    charts: bool,
) -> None:
    """Read a view or a source once, and print its statistics."""
    if kind not in _KINDS:
        raise RequestError(
            f"{kind} {name!r} has no rows of its own.",
            hint="name a feature view or a source; get-historical --profile has a service's",
        )
    of = store.get_feature_view(name) if kind == "view" else store.get_source(name)
    with progress(session, "rows") as report:
        profile = store.profile(of, start=start, end=end, progress=report)
    if svg is not None:
        write_svg(profile, svg)
    if session.as_json:
        session.answer({"kind": kind, "name": name, "profile": profile.to_document()})
        return
    print_heading(session.out, f"statistics of {kind} {name}", apart=False)
    print_profile(session, profile, charts=charts)


def print_profile(session: Session, profile: "Profile", *, charts: bool) -> None:
    """Print a profile for people."""
    from featurestore.statistics import text

    plain = not text.can_draw(session.out)
    session.out.write(f"{counted(profile.rows, 'row')}\n")
    rows: Any = [text.column_row(c, ascii_only=plain) for c in profile.columns.values()]
    print_table(session.out, text.HEADERS, rows)
    if profile.coverage:
        print_heading(session.out, "coverage of the spine")
        rows = [text.coverage_row(view, found) for view, found in profile.coverage.items()]
        print_table(session.out, text.COVERAGE_HEADERS, rows)
        session.out.write("\n")
        print_table(session.out, text.FEATURE_HEADERS, text.feature_rows(profile))
    for column in profile.columns.values() if charts else ():
        heading, *lines = text.chart_lines(column, ascii_only=plain) or [""]
        if lines:
            print_heading(session.out, heading)
            session.out.writelines(f"{line}\n" for line in lines)


def write_svg(profile: "Profile", path: Path) -> None:
    """Write charts: all into one file if its name ends with .svg, else each into a folder.

    Raises:
        OutputError: They cannot be written.
    """
    try:
        if path.suffix.lower() == ".svg":
            path.write_text(profile.to_svg(), encoding="utf-8")
            return
        path.mkdir(parents=True, exist_ok=True)
        digits = len(str(len(profile.columns)))
        for number, column in enumerate(profile.columns.values(), start=1):
            name = _UNUSUAL.sub("_", column.name)[:60]
            file = path / f"{number:0{digits}}_{name}.svg"
            file.write_text(column.to_svg(), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.") from None
