"""The code in the documents runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks import in_a_process

from . import doc_page
from .tree import ROOT, files

PAGES = [p for p in files() if p == "README.md" or (p.startswith("docs/") and p.endswith(".md"))]


FRESH = {"README.md"}
"""Pages that run in fresh processes, as readers' do, and their commands: the others are forks."""


def _run(page: Path, folder: Path, *programs: Path) -> subprocess.CompletedProcess[str]:
    runner = str(ROOT / "tests/repo/doc_page.py")
    command = [sys.executable, "-W", "error", runner, str(page), *map(str, programs)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "reader"
    made.mkdir()
    return made


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_from_top_to_bottom(page: str, folder: Path, forked: Path) -> None:
    if page in FRESH:
        ran = _run(ROOT / page, folder)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    else:
        told = folder.with_name("told")
        code = in_a_process(doc_page.become, ROOT / page, folder, forked.parent, told)
        assert code == 0, told.read_text()


GOOD = """
<!-- file: conf/name.txt -->
```yaml
kept
```
```python
from pathlib import Path
name = Path("conf/name.txt").read_text().strip()
```
```console
$ cd conf && cat name.txt
kept
$ echo one; \\
  echo three
one
...
```
```python
assert Path("name.txt").exists()
assert name == "kept"
```
<!-- exit: 3 -->
```sh
exit 3
```
<!-- background: ready -->
```console
$ echo ready; sleep 100
```
<!-- no-run: it would fail -->
```python
1 / 0
```
```text
any text
```
"""


def test_blocks_share_a_folder_and_a_namespace(folder: Path) -> None:
    page = folder / "page.md"
    page.write_text(GOOD)
    ran = _run(page, folder)
    assert (ran.stdout, ran.stderr) == ("6 blocks ran\n", "")


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        ("```python\n1 / 0\n```", 'page.md", line 4'),
        ("```python\nimport warnings; warnings.warn('old')\n```", "UserWarning: old"),
        ("```console\n$ echo one\ntwo\n```", "shown:\ntwo\nprinted:\none"),
        ("```console\n$ false\n```", "page.md:4: false\nexit code 1, not 0"),
        ("```console\nfalse\n```", "starts with '$ '"),
        ("```sh\nfalse\necho hidden\n```", "exit code 1"),
        ("<!-- exit: 2 -->\n```sh\ntrue\n```", "exit code 0, not 2"),
        ("<!-- background: ready -->\n```sh\necho stopped\n```", "never printed 'ready':\nstopped"),
    ],
)
def test_a_page_that_is_wrong_fails_and_says_where(
    folder: Path, block: str, complaint: str
) -> None:
    page = folder / "page.md"
    page.write_text(f"# Title\n\n{block}\n")
    ran = _run(page, folder)
    assert ran.returncode == 1
    assert complaint in ran.stderr
