"""spine events, spine grid, spine label: from a source's rows to a training set with labels."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from featurestore import FeatureStore

from .command_line import Repository, at, make_repository


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """A repository that was applied; tests only read it."""
    made = make_repository(tmp_path_factory.mktemp("spines") / "repo")
    made.succeed("apply")
    return made


def test_a_spine_goes_from_events_through_a_label_into_a_training_set(
    repo: Repository, tmp_path: Path
) -> None:
    asked, spine, train = (str(tmp_path / f"{n}.parquet") for n in ("asked", "spine", "train"))
    made = repo.succeed("spine", "events", "profile", "--column", "country", "-o", asked)
    assert [line.split(maxsplit=1) for line in made.out.splitlines()] == [
        ["rows", "4"],
        ["keys", "user_id"],
        ["times", "2026-01-01T00:00:00Z to 2026-02-25T00:00:00Z"],
        ["events", "profile, of 4 rows"],
        ["written", f"to  {asked}"],
    ]
    label = ("spine", "label", asked, "again", "--of", "users", "--window", "40d", "--json")
    document = repo.succeed(*label, "--aggregation", "exists", "-o", spine).document
    assert document["num_rows"] == 4
    assert document["origin"]["labels"] == ["again"]
    step = document["origin"]["steps"][-1]
    assert (step["mature"], step["immature"]) == (2, 2)
    assert step["complete_until"] == "2026-02-25T00:00:00Z"
    repo.succeed("get-historical", "-f", "profile:credit", "--spine", spine, "-o", train)
    found = pq.read_table(train)
    assert found["again"].to_pylist() == [False, False, None, None]
    with FeatureStore(repo.folder) as store:
        assert store.spines.from_table(Path(train), keys=["user_id"]).labels == ("again",)


def test_a_spine_is_printed_without_an_output(repo: Repository) -> None:
    shown = repo.succeed("spine", "events", "users", "--key", "user_id", "--start", "2026-02-01")
    assert [words[:2] for words in shown.lines_with("2026-02-2")][:2] == [
        ["1", "2026-02-20T00:00:00Z"],
        ["2", "2026-02-25T00:00:00Z"],
    ]
    document = repo.succeed(
        "spine", "events", "profile", "--offset", "-1h", "--sample", "1", "--seed", "3", "--json"
    ).document
    assert len(document["rows"]) == document["num_rows"] == 1
    assert document["origin"]["steps"][-1]["seed"] == 3


def test_a_grid_is_of_a_views_keys_or_of_a_file(repo: Repository, tmp_path: Path) -> None:
    days = ("--start", "2026-01-31", "--end", "2026-02-02", "--every", "1d", "--json")
    assert repo.succeed("spine", "grid", "traffic", *days).document["rows"] == [
        {"origin": "JFK", "dest": "LAX", "event_timestamp": "2026-02-01T00:00:00Z"},
        {"origin": "JFK", "dest": "LAX", "event_timestamp": "2026-02-02T00:00:00Z"},
        {"origin": "LGA", "dest": "BO,S", "event_timestamp": "2026-02-02T00:00:00Z"},
    ]
    file = tmp_path / "entities.parquet"
    pq.write_table(pa.table({"user_id": [7]}), file)
    asked = ("spine", "grid", "--entities", str(file), "--timezone", "Europe/Oslo", *days)
    assert [row["event_timestamp"] for row in repo.succeed(*asked).document["rows"]] == [
        "2026-01-30T23:00:00Z",
        "2026-01-31T23:00:00Z",
        "2026-02-01T23:00:00Z",
    ]


def test_a_value_as_of_later_is_a_label_too(repo: Repository, tmp_path: Path) -> None:
    spine = tmp_path / "own.parquet"
    times = pa.array([at(1, 1), at(2, 20)], pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"buyer": [1, 1], "event_timestamp": times}), spine)
    asked = ("--key", "buyer", "--join-key", "user_id=buyer", "--window", "5d")
    label = ("spine", "label", str(spine), "country_then", "--as-of", "profile:country", *asked)
    shown = repo.succeed(*label)
    assert [words[2] for words in shown.lines_with("T00:00:00Z")[:2]] == ["NO", "SE"]
    assert shown.lines_with("label country_then") == [
        ["label", "country_then", "2", "known,", "complete", "until", "2026-02-25T00:00:00Z"]
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["events", "profil"], 1, "did you mean 'profile'"),
        (["events", "users"], 1, "which of its columns are keys"),
        (["events", "profile", "--sample", "1", "--fraction", "0.5"], 2, "either --sample"),
        (["events", "profile", "--max-rows", "2"], 1, "more than 2 events"),
        (["grid", "--start", "2026-01-01", "--end", "2026-01-02", "--every", "1d"], 1, "give one"),
        (["label", "none.parquet", "n", "--window", "1d"], 2, "either --of"),
        (["label", "none.parquet", "n", "--window", "1d", "--of", "users"], 1, "cannot be read"),
        (
            ["label", "x", "n", "--window", "1d", "--of", "users", "--join-key", "a"],
            2,
            "KEY=COLUMN",
        ),
    ],
)
def test_what_cannot_be_made_is_said_in_a_line(
    repo: Repository, arguments: list[str], code: int, says: str
) -> None:
    outcome = repo.run("spine", *arguments)
    assert outcome.code == code, outcome.err
    assert says in outcome.err


def test_conflicting_duplicates_end_with_an_error(repo: Repository, tmp_path: Path) -> None:
    spine = tmp_path / "twice.parquet"
    times = pa.array([at(1, 1)] * 2, pa.timestamp("us", "UTC"))
    late = pa.field("late", pa.bool_(), metadata={"featurestore.label": "true"})
    schema = pa.schema([("user_id", pa.int64()), ("event_timestamp", times.type), late])
    pq.write_table(pa.table([pa.array([1, 1]), times, pa.array([True, False])], schema), spine)
    label = (
        "spine",
        "label",
        str(spine),
        "n",
        "--key",
        "user_id",
        "--of",
        "users",
        "--window",
        "1d",
    )
    outcome = repo.run(*label, "--deduplicate", "first")
    assert outcome.code == 1
    assert "label 'late'" in outcome.err
    kept = repo.succeed(*label, "--deduplicate", "last", "--conflicts", "keep")
    assert kept.lines_with("duplicates") == [
        ["duplicates", "dropped", "1,", "1", "conflicting", "moment"]
    ]
