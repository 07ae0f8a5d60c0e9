"""Which Python code a configuration lets run, and which it never does."""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from featurestore.errors import FunctionChangedError, FunctionLoadError
from featurestore.functions import FunctionLoader, check_reference, reference_to
from tests.unit import scoring

MODULE = """
import pyarrow as pa

def double(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    folder.mkdir()
    return folder


def write(root: Path, file: str, text: str = MODULE) -> str:
    """Write a module; return its hash."""
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_function_is_loaded_from_the_module_that_has_its_hash(root: Path) -> None:
    sha256 = write(root, "deep/er/scoring.py")
    loader = FunctionLoader([root])
    assert loader.pin("deep.er.scoring:double").sha256 == sha256
    loaded = loader.load("deep.er.scoring:double", sha256)
    assert (loaded.file, loaded.takes) == (root / "deep/er/scoring.py", "record batch")
    batch = pa.record_batch({"x": [1]})
    assert loaded.call(batch) is batch


def test_a_module_runs_once_and_under_a_name_of_its_own(root: Path) -> None:
    sha256 = write(
        root,
        "scoring.py",
        f"{MODULE}\nimport os\nos.environ['RAN'] = os.environ.get('RAN', '') + '+'\n",
    )
    os.environ.pop("RAN", None)
    loader = FunctionLoader([root])
    first = loader.load("scoring:double", sha256)
    assert loader.load("scoring:double", sha256) is first
    assert os.environ.pop("RAN") == "+"
    assert "scoring" not in sys.modules


def test_a_module_with_another_hash_is_refused_and_does_not_run(root: Path) -> None:
    found = write(root, "scoring.py", "raise SystemExit('it ran')")
    with pytest.raises(FunctionChangedError) as caught:
        FunctionLoader([root]).load("scoring:double", "0" * 64)
    error = caught.value
    assert (error.expected, error.found) == ("0" * 64, found)
    assert error.file == str(root / "scoring.py")
    assert "apply again" in str(error)


def test_what_is_hashed_is_what_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is replaced after it was read runs as it was read."""
    sha256 = write(root, "scoring.py")
    digest = hashlib.sha256

    def replacing(content: bytes = b"") -> "hashlib._Hash":
        (root / "scoring.py").write_text("raise SystemExit('the other file ran')")
        return digest(content)

    monkeypatch.setattr(hashlib, "sha256", replacing)
    assert FunctionLoader([root]).load("scoring:double", sha256).sha256 == sha256


def test_without_roots_nothing_is_loaded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = write(root, "scoring.py")
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(root)
    with pytest.raises(FunctionLoadError, match="names no folder") as caught:
        FunctionLoader().load("scoring:double", sha256)
    assert "roots" in str(caught.value.hint)


def test_a_module_outside_the_roots_is_not_found(root: Path) -> None:
    sha256 = write(root.parent, "scoring.py")
    with pytest.raises(FunctionLoadError, match=r"there is no .*scoring\.py"):
        FunctionLoader([root]).load("scoring:double", sha256)


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_link_that_leads_out_of_its_root_is_refused(
    root: Path,
    is_folder: bool,  # noqa: FBT001 - a parameter of a test
) -> None:
    sha256 = write(root.parent, "outside/scoring.py")
    if is_folder:
        (root / "inside").symlink_to(root.parent / "outside")
        reference = "inside.scoring:double"
    else:
        (root / "scoring.py").symlink_to(root.parent / "outside/scoring.py")
        reference = "scoring:double"
    with pytest.raises(FunctionLoadError, match="leads out of the folder"):
        FunctionLoader([root]).load(reference, sha256)


def test_a_link_within_its_root_is_followed(root: Path) -> None:
    sha256 = write(root, "real.py")
    (root / "scoring.py").symlink_to("real.py")
    assert FunctionLoader([root]).load("scoring:double", sha256).file == root / "real.py"


def test_the_first_root_that_has_a_module_is_taken(root: Path) -> None:
    first, second = root / "a", root / "b"
    write(first, "only_here.py")
    wanted = write(second, "scoring.py")
    assert FunctionLoader([first, second]).pin("scoring:double").sha256 == wanted
    other = write(first, "scoring.py", f"# another\n{MODULE}")
    assert FunctionLoader([first, second]).pin("scoring:double").sha256 == other


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _large(path: Path) -> None:
    path.write_text("#" * (1 << 20) + "\n")


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("make", [_pipe, _large, _circle, _folder])
def test_what_is_no_plain_file_is_refused(root: Path, make: Callable[[Path], None]) -> None:
    make(root / "scoring.py")
    with pytest.raises(FunctionLoadError, match=r"no plain file|cannot be read"):
        FunctionLoader([root]).pin("scoring:double")


@pytest.mark.parametrize(
    "reference",
    [
        "scoring",
        "scoring:",
        ":double",
        "../scoring:double",
        "..scoring:double",
        "a/b:double",
        "/etc/passwd:x",
        "scoring:double()",
        "scoring:a.b",
        "sc\0ring:double",
        "scöring:double",
        "scoring:double\n",
        "a." * 200 + "b:double",
        "class.scoring:double",
        "json:loads",
        "os.path:join",
        "__main__:double",
    ],
)
def test_a_reference_that_could_mean_something_else_is_refused(root: Path, reference: str) -> None:
    with pytest.raises(ValueError, match=r"no reference|Python's own"):
        check_reference(reference)
    with pytest.raises(FunctionLoadError):
        FunctionLoader([root]).load(reference, "0" * 64)


FAILING: dict[str, tuple[str, str]] = {
    "it does not compile": ("def double(:", "SyntaxError"),
    "it is not UTF-8": ("# coding: utf-8\nx = '\udcff'", "UnicodeDecodeError"),
    "it raises": ("raise ValueError('no good')", "ValueError: no good .*line 1"),
    "it ends the process": ("raise SystemExit(3)", "SystemExit"),
    "it imports a neighbour": ("import neighbour", "ModuleNotFoundError"),
    "it imports relatively": ("from . import neighbour", "ImportError"),
    "it has no such function": ("def doubled(b): ...", "defines no function 'double'"),
    "it has something else": ("double = 1", "no function of its own"),
    "it has another module's": ("from os.path import join as double", "no function of its own"),
    "it takes nothing": ("def double(): ...", "one argument"),
    "it takes two": ("import pyarrow as pa\ndef double(a: pa.Table, b): ...", "one argument"),
    "it does not say what it takes": ("def double(batch): ...", "does not say what it takes"),
    "it takes a list": ("def double(batch: list): ...", "does not say what it takes"),
    "it takes pandas": (
        "from __future__ import annotations\ndef double(df: pd.DataFrame): ...",
        "does not say what it takes",
    ),
    "it is asynchronous": (
        "import pyarrow as pa\nasync def double(batch: pa.Table): ...",
        "asynchronous",
    ),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_module_that_cannot_be_used_is_refused_with_the_reason(root: Path, case: str) -> None:
    text, reason = FAILING[case]
    (root / "scoring.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    write(root, "neighbour.py", "")
    before = set(sys.modules)
    with pytest.raises(FunctionLoadError, match=reason) as caught:
        FunctionLoader([root]).pin("scoring:double")
    assert caught.value.file == str(root / "scoring.py")
    assert not [n for n in set(sys.modules) - before if "scoring" in n and "raise" in text]


def test_a_misspelt_function_is_suggested(root: Path) -> None:
    write(root, "scoring.py")
    with pytest.raises(FunctionLoadError, match="did you mean 'double'"):
        FunctionLoader([root]).pin("scoring:duoble")


@pytest.mark.parametrize(
    ("annotation", "takes"),
    [
        ("pa.RecordBatch", "record batch"),
        ("pa.Table", "table"),
        ("pl.DataFrame", "polars"),
        ("'pl.DataFrame'", "polars"),
        ("'pyarrow.Table'", "table"),
    ],
)
def test_the_annotation_says_what_a_function_takes(root: Path, annotation: str, takes: str) -> None:
    text = f"import polars as pl\nimport pyarrow as pa\ndef double(batch: {annotation}): ..."
    write(root, "scoring.py", text)
    assert FunctionLoader([root]).pin("scoring:double").takes == takes


def test_an_annotation_that_type_checkers_alone_import_is_read_as_text(root: Path) -> None:
    write(root, "scoring.py", "def double(batch: 'pl.DataFrame', scale: float = 2.0): ...")
    assert FunctionLoader([root]).pin("scoring:double").takes == "polars"


def test_a_module_may_define_dataclasses(root: Path) -> None:
    imports = "from __future__ import annotations\nfrom dataclasses import dataclass"
    write(root, "scoring.py", f"{imports}\n@dataclass\nclass A:\n    x: int\n{MODULE}")
    assert FunctionLoader([root]).pin("scoring:double").takes == "record batch"


def test_a_function_is_referred_to_by_where_it_is_defined() -> None:
    assert reference_to(scoring.ratio) == "tests.unit.scoring:ratio"
    assert reference_to(scoring.wrapped) == "tests.unit.scoring:wrapped"


def _function_of(module: str, file: str, text: str) -> Callable[..., object]:
    made = ModuleType(module)
    code = f"def double(batch): ...\n{text}"
    exec(compile(code, file, "exec"), made.__dict__)  # noqa: S102 - stands for a user's file
    found: Callable[..., object] = made.__dict__["double"]
    return found


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda batch: batch, "not at the top"),
        (len, "not a function"),
        (FunctionLoader.pin, "not at the top"),
        (_function_of("__main__", "job.py", ""), "script"),
        (_function_of("features", "features/users.py", ""), "module of its own"),
        (os.path.join, "Python's own|module of its own"),
    ],
)
def test_a_function_that_could_not_be_found_again_is_refused(
    function: Callable[..., object], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        reference_to(function)
