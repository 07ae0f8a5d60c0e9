"""Tracked files name no machine and no registry, and stay small."""

import re

from .tree import ROOT, files, texts

# Written with brackets so that the patterns do not find themselves.
MACHINE_PATH = re.compile(
    r"(^|[^A-Za-z0-9._$}-])/(w[o]rk|r[o]ot|f[a]rm|h[o]me|U[s]ers)/", re.MULTILINE
)
REGISTRY = re.compile(
    r"p[y]pi\.|p[y]thonhosted\.|(extra-)?i[n]dex-url|f[i]nd-links\s*=|n[p]mjs\.", re.IGNORECASE
)
LOCKS = {"uv.lock", "poetry.lock", "package-lock.json", "Pipfile.lock"}
MAX_BYTES = 1_000_000


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0].strip()}"
        for path, text in texts()
        for match in pattern.finditer(text)
    ]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert _lines_with(MACHINE_PATH) == []


def test_no_file_names_a_package_registry() -> None:
    # The flags that keep registries out of constraints.txt are the exception.
    assert [f for f in _lines_with(REGISTRY) if not f.startswith("Makefile:")] == []


def test_no_lock_file_is_tracked() -> None:
    assert [path for path in files() if path.rsplit("/", 1)[-1] in LOCKS] == []


def test_no_file_is_larger_than_a_megabyte() -> None:
    assert [path for path in files() if (ROOT / path).stat().st_size > MAX_BYTES] == []


def test_no_module_is_called_utils_or_helpers() -> None:
    vague = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py", "common.py"}
    assert [path for path in files() if path.rsplit("/", 1)[-1] in vague] == []
