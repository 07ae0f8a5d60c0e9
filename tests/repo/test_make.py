"""What the documents tell the reader to type exists."""

import re

from .tree import ROOT, texts

TARGET = re.compile(r"^([a-z]+):", re.MULTILINE)
# In code only: "make sure" is no target.
MENTION = re.compile(r"(?:`|^\$ |^step |^    |&& )make ([a-z]+)", re.MULTILINE)


def test_every_make_target_that_is_mentioned_exists() -> None:
    targets = set(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    mentioned = {
        (path, target)
        for path, text in texts()
        if path.endswith((".md", ".py", ".toml")) or path == ".ci/run"
        for target in MENTION.findall(text)
    }
    assert {(path, target) for path, target in mentioned if target not in targets} == set()
    assert {"demo", "test", "check"} <= {target for _, target in mentioned}


def test_every_make_target_is_phony_and_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    explained = set(re.findall(r"^([a-z]+):.*## ", makefile, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == explained == set(TARGET.findall(makefile))
