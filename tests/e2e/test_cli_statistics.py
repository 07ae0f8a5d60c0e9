"""describe --stats and get-historical --profile."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest

from featurestore import FeatureStore
from featurestore.cli import exits
from featurestore.statistics import Profile

from .command_line import Repository, at


@pytest.fixture(scope="module")
def repo(applied: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that was applied, with a spine; tests only read it."""
    return applied.copied(tmp_path_factory.mktemp("statistics") / "repo")


@pytest.fixture(scope="module")
def asked(repo: Repository) -> tuple[str, ...]:
    times = pa.array([at(1, 2), at(2, 21), at(2, 26)], pa.timestamp("us", "UTC"))
    spine = repo.write_spine({"user_id": [1, 1, 9], "event_timestamp": times})
    return "get-historical", "--features", "scoring", "--spine", str(spine), "--profile"


@pytest.mark.parametrize("name", ["view/profile", "source/users"])
def test_statistics_are_those_of_python(repo: Repository, name: str) -> None:
    document = repo.succeed("describe", name, "--stats", "--json").document
    kind, _, plain = name.partition("/")
    assert (document["kind"], document["name"]) == (kind, plain)
    with FeatureStore(repo.folder) as store:
        of = store.get_feature_view(plain) if kind == "view" else store.get_source(plain)
        assert Profile.from_document(document["profile"]) == store.profile(of)


def test_statistics_are_printed_a_column_a_line(repo: Repository) -> None:
    printed = repo.succeed("describe", "view/profile", "--stats", "--charts").out
    assert "statistics of view profile" in printed
    lines = printed.splitlines()
    for name in ("user_id", "event_timestamp", "country", "credit", "orders", "since"):
        assert any(line.startswith(f"{name} ") for line in lines)
    assert "Most frequent values of country" in printed


def test_charts_are_drawn_into_a_file_or_a_folder(repo: Repository, tmp_path: Path) -> None:
    file, folder = tmp_path / "all.svg", tmp_path / "charts"
    repo.succeed("describe", "view/profile", "--stats", "--svg", str(file))
    repo.succeed("describe", "view/profile", "--stats", "--svg", str(folder))
    drawn = [file, *folder.iterdir()]
    assert len(drawn) == 1 + len(
        repo.succeed(*_stats("view/profile")).document["profile"]["columns"]
    )
    for path in drawn:
        assert ET.parse(path).getroot().tag.endswith("svg")  # noqa: S314


def _stats(name: str) -> tuple[str, ...]:
    return "describe", name, "--stats", "--json"


def test_a_training_set_is_profiled_while_it_is_written(
    repo: Repository, asked: tuple[str, ...], tmp_path: Path
) -> None:
    output = tmp_path / "out.parquet"
    document = repo.succeed(*asked, "--output", str(output), "--json").document
    assert output.exists()
    assert document["output"] == str(output)
    found = Profile.from_document(document["profile"])
    assert found.coverage is not None
    assert found.coverage["profile"].found == 2
    assert found == Profile.from_document(repo.succeed(*asked, "--json").document["profile"])


def test_coverage_is_printed(repo: Repository, asked: tuple[str, ...]) -> None:
    printed = repo.succeed(*asked).out
    assert "coverage of the spine" in printed
    assert "66.7 %" in printed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("describe", "scoring", "--stats"), exits.ERROR),
        (("describe", "view/profile", "--svg", "x.svg"), exits.USAGE),
        (("describe", "view/profile", "--charts"), exits.USAGE),
        (("describe", "source/users", "--stats", "--lateness"), exits.USAGE),
        (("describe", "view/profile", "--stats", "--start", "soon"), exits.ERROR),
    ],
)
def test_options_that_make_no_sense_are_refused(
    repo: Repository, arguments: tuple[str, ...], code: int
) -> None:
    assert repo.run(*arguments).code == code


def test_a_place_that_cannot_be_written_is_an_error(repo: Repository, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = repo.run("describe", "view/profile", "--stats", "--svg", str(tmp_path / "file" / "x"))
    assert outcome.code != 0
    assert "cannot be written" in outcome.err
