"""`init`: a new repository from a template."""

import contextlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from featurestore.cli.session import Session, UsageError
from featurestore.errors import OutputError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

SETTINGS: Final = "feature_store.yaml"


class Template(StrEnum):
    """What a new repository starts with."""

    MINIMAL = "minimal"
    FLIGHTS = "flights"


_NEXT: Final = {
    Template.MINIMAL: (
        "featurestore plan",
        "featurestore apply",
        "featurestore get-historical --features credit_v1 --spine data/moments.parquet",
        "featurestore materialize",
        "featurestore get-online credit_v1 --entity customer_id=1",
    ),
    Template.FLIGHTS: (
        "featurestore plan",
        "python demo.py",
    ),
}
"""What to try in it."""


@dataclass(frozen=True, kw_only=True)
class NewFile:
    """A file of a template and where it goes."""

    source: "Traversable"
    target: Path


def init(
    context: typer.Context,
    path: Annotated[
        Path, typer.Argument(help="Folder of the new repository; made if need be.")
    ] = Path(),
    *,
    template: Annotated[
        Template,
        typer.Option("--template", "-t", help="minimal: two small files; flights: real data."),
    ] = Template.MINIMAL,
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="Name of the project.")
    ] = None,
) -> None:
    """Make a new repository from a template.

    It holds settings, definitions, and data to try them on.
    """
    session = Session.of(context)
    _check_project(project)
    folder = path if session.repo is None else session.repo / path
    copied = _copy(template, folder, project)
    with _undone_on_error(copied, folder), session.foreign_code():
        built = _build(session, folder)
    if session.as_json:
        made = sorted(str(file.target.relative_to(folder)) for file in copied)
        answer = {"path": str(folder.absolute()), "template": template.value, "files": made}
        session.answer({**answer, "data": built, "next": list(_NEXT[template])})
        return
    session.out.write(f"Made {folder.absolute()}:\n")
    session.out.writelines(f"  {file.target.relative_to(folder)}\n" for file in copied)
    session.out.writelines(f"  {line}\n" for line in built)
    session.out.write("Next:\n")
    steps = _NEXT[template]
    if folder.absolute() != Path.cwd():
        steps = (f"cd {shlex.quote(str(folder))}", *steps)
    session.out.writelines(f"  {step}\n" for step in steps)


def _check_project(project: str | None) -> None:
    from featurestore.naming import check_object_name

    if project is not None:
        try:
            check_object_name(project)
        except ValueError as error:
            raise UsageError(f"--project: {error}.") from None


def _copy(template: Template, folder: Path, project: str | None) -> list[NewFile]:
    """Copy a template; nothing is written if any of its files is there already.

    Raises:
        OutputError: A file is there, or cannot be written.
    """
    wanted = list(_new_files(_templates() / template.value, folder))
    taken = sorted(str(file.target) for file in wanted if file.target.exists())
    if taken:
        raise OutputError(
            f"{', '.join(taken)} exist{'s' if len(taken) == 1 else ''} already; nothing was"
            " written.",
            hint="name a new folder: featurestore init my_repository",
        )
    try:
        for file in wanted:
            file.target.parent.mkdir(parents=True, exist_ok=True)
            file.target.write_bytes(_content(file, project))
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder} cannot be written: {error.strerror or error}."
        ) from None
    return wanted


def _templates() -> "Traversable":
    from importlib.resources import files

    return files("featurestore.cli") / "templates"


def _new_files(source: "Traversable", target: Path) -> Iterator[NewFile]:
    for item in sorted(source.iterdir(), key=lambda each: each.name):
        if item.is_dir() and item.name != "__pycache__":
            yield from _new_files(item, target / item.name)
        elif item.is_file():
            yield NewFile(source=item, target=target / item.name)


def _content(file: NewFile, project: str | None) -> bytes:
    content = file.source.read_bytes()
    if file.target.name == SETTINGS and project is not None:
        return re.sub(rb"(?m)^project: .*$", b"project: " + project.encode(), content, count=1)
    return content


def _build(session: Session, folder: Path) -> list[str]:
    """Run the `build` of the copied build_data.py; return what it says it made."""
    file = folder / "build_data.py"
    if not file.exists():
        return []
    import runpy

    session.note(f"building data with {file} ...")
    # Run, not imported: no cache of it is left beside it.
    report: Any = runpy.run_path(str(file), run_name="build_data")["build"](folder)
    return [str(line).strip() for line in report.lines()]


@contextlib.contextmanager
def _undone_on_error(copied: Sequence[NewFile], folder: Path) -> Iterator[None]:
    """Take a copied template away again if its data cannot be built: init can then be repeated."""
    try:
        yield
    except BaseException:
        for file in copied:
            file.target.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds something else
            folder.rmdir()
        raise
