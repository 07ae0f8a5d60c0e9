"""The whole way of a feature, on the flights of 2013: `python demo.py` in this repository.

The question, asked an hour before a flight is due: will it leave at least 15 minutes late? On the
way the same model learns twice: from what was known when the question was asked, and from what was
known at the end of the day, as a careless join has it. The second looks brilliant and is useless.
"""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from featurestore_sdk import FeatureStoreClient, OnlineFeatures
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from featurestore import FeatureStore
from featurestore.spines import Spine

REPO: Final = Path(__file__).resolve().parent
COMMAND: Final = Path(sys.executable).with_name("featurestore")
SERVICE: Final = "delay_v1"
LEARN_UNTIL: Final = datetime(2013, 10, 1, 4, tzinfo=UTC)  # midnight in New York
KEYS: Final = ("origin", "dest", "tailnum", "carrier")
ASKED: Final = ("distance", "hour", "weekday")
"""What the question itself says, and a model may use."""
LOOK_UPS: Final = 200

Matrix = npt.NDArray[np.float64]


def main() -> None:
    """Run all steps; any failure ends the program with its message and a code other than 0."""
    store = FeatureStore(REPO)
    with step("Data: when was each fact known?"):
        build_data()
    with step("Definitions: plan and apply"):
        apply(store)
    with step("Questions: each flight, an hour before it is due"):
        questions = past_questions(store)
    with step("A training set as of the moment of each question"):
        honest = training_set(store, questions)
    # One thread: on a busy machine two of them wait for each other longer than they work.
    with step("The same model, learned twice"), threadpool_limits(1):
        model, features = compare_with_a_leak(store, questions.to_polars(), honest)
    with step("Materialize: the newest values go online"):
        materialize(store)
    with served() as client:
        with step("Predict the next flights with features from the server"):
            predict_next(client, store.clock.now(), model, features)
        with step("Verify: is online what offline would have said?"):
            run_command("verify")


# ---- the steps


def build_data() -> None:
    """Run build_data.py, unless `featurestore init` has done so."""
    if (REPO / "data" / "airport_arrivals.parquet").exists():
        say("already built by `featurestore init`; `python build_data.py` builds it again")
        return
    subprocess.run([sys.executable, REPO / "build_data.py"], check=True)


def apply(store: FeatureStore) -> None:
    """Show what apply would change, and do it."""
    plan = store.plan()
    for action, kind in dict.fromkeys((change.action, change.kind) for change in plan.changes):
        chosen = (c.name for c in plan.changes if (c.action, c.kind) == (action, kind))
        say(f"{action} {kind}: {', '.join(chosen)}")
    say(plan.summary)
    store.apply(plan)


def past_questions(store: FeatureStore) -> Spine:
    """Return the flights whose lateness is known by now; cancelled ones stay, without an answer."""
    questions = store.spines.from_events(
        "schedule",
        keys=["origin", "dest"],
        columns=["carrier", "tailnum", *ASKED, "scheduled_departure"],  # a tail number may be null
        labels=["late"],
        end=store.clock.now() - timedelta(minutes=15),
        offset="-1h",
    )
    say(f"{questions.num_rows:,} flights; the answer is {', '.join(questions.labels)}")
    return questions


def training_set(store: FeatureStore, questions: Spine | pl.DataFrame) -> pl.DataFrame:
    """Return the questions, each with the features as they were known at its `event_timestamp`."""
    job = store.get_historical_features(questions, SERVICE, full_feature_names=True)
    table: pl.DataFrame = job.to_polars()
    say(f"{table.height:,} rows, {len(job.feature_names)} features each")
    return table


def compare_with_a_leak(
    store: FeatureStore, questions: pl.DataFrame, honest: pl.DataFrame
) -> tuple[HistGradientBoostingClassifier, list[str]]:
    """Learn from honest and from leaking features, and say what the leak is worth."""
    leaking = training_set(store, at_the_end_of_the_day(questions))
    answered = honest["late"].is_not_null()
    past = answered & (honest["event_timestamp"] < LEARN_UNTIL)
    later = answered & ~past
    features = [*ASKED, *usable_features(honest.filter(past).drop(questions.columns))]
    late = honest["late"].filter(later).to_numpy()

    model = learn(honest.filter(past), features)
    cheat = learn(leaking.filter(past), features)
    fair, seen = matrix(honest.filter(later), features), matrix(leaking.filter(later), features)
    score = auc(cheat, seen, late)
    column, without = leaked_column(cheat, seen, fair, late)
    say(
        f"learned from {past.sum():,} flights until October, scored on the {len(late):,} since"
        f" ({(~answered).sum():,} were cancelled and have no answer)",
        f"AUC {auc(model, fair, late):.3f}  known an hour before departure",
        f"AUC {score:.3f}  known at the end of the day: too good to be true",
        f"AUC {auc(cheat, fair, late):.3f}  the second model, given what it would get in service",
        f"it leaks through {features[column]}: with this column alone put right,"
        f" {score:.3f} falls to {without:.3f}",
    )
    return model, features


def materialize(store: FeatureStore) -> None:
    """Write the newest row of each entity, as of the demo's clock, to the online store."""
    for run in store.materialize(end=store.clock.now()):
        say(
            f"{run.view:<14} {run.rows_read:>8,} rows read, {run.written:>6,} entities written,"
            f" {run.expired:>6,} older than the ttl"
        )


def predict_next(
    client: FeatureStoreClient,
    now: datetime,
    model: HistGradientBoostingClassifier,
    features: list[str],
) -> None:
    """Ask about the flights due in an hour, as a service would, and compare with what happened."""
    flights = next_flights(now)
    reply, milliseconds = look_up(client, flights)
    say(
        f"{len(reply)} flights x {len(reply.feature_names)} features in"
        f" {milliseconds:.1f} ms (median of {LOOK_UPS} calls), at"
        f" {reply.request_timestamp:%Y-%m-%d %H:%M} by the demo's clock",
        "values: " + ", ".join(f"{n} {status}" for status, n in count_statuses(reply).items()),
    )
    asked = flights.select(ASKED).cast(pl.Float64).to_numpy()
    known = reply.to_numpy(features[len(ASKED) :])
    chance = model.predict_proba(np.hstack([asked, known]))[:, 1]
    for flight, p in zip(flights.head(6).iter_rows(named=True), chance, strict=False):
        say(f"  {describe(flight)}  late with {p:3.0%}; it {outcome(flight['late'])}")


# ---- questions


def at_the_end_of_the_day(questions: pl.DataFrame) -> pl.DataFrame:
    """Return the questions as a careless join asks them: when the flight's day is over."""
    day = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York").dt.truncate("1d")
    return questions.with_columns(
        event_timestamp=day.dt.offset_by("1d").dt.convert_time_zone("UTC")
    )


def next_flights(now: datetime) -> pl.DataFrame:
    """Return the flights due in 60 to 75 minutes."""
    hour = now + timedelta(hours=1)
    due = pl.col("scheduled_departure").is_between(hour, hour + timedelta(minutes=15))
    return pl.read_parquet(REPO / "data" / "flights.parquet").filter(due)


def describe(flight: dict[str, object]) -> str:
    """Return a flight in short: `B6 431   LGA-SRQ`."""
    number = f"{flight['carrier']} {flight['flight']}"
    return f"{number:<8} {flight['origin']}-{flight['dest']}"


def outcome(late: bool | None) -> str:  # noqa: FBT001 - a value of the data, not an option
    """Return what happened to a flight in words."""
    return "was cancelled" if late is None else "left late" if late else "left on time"


# ---- the model


def usable_features(examples: pl.DataFrame) -> list[str]:
    """Return the features that are numbers and have a value at least once."""
    empty = [name for name in examples.columns if examples[name].null_count() == len(examples)]
    say(f"never a value, so left out: {', '.join(empty)}")
    dtypes = examples.drop(empty).schema
    return [name for name, dtype in dtypes.items() if dtype.is_numeric()]


def matrix(table: pl.DataFrame, features: list[str]) -> Matrix:
    """Return features as a matrix; nulls become NaN, which the model takes as "unknown"."""
    values: Matrix = table.select(pl.col(features).cast(pl.Float64)).to_numpy()
    return values


def learn(examples: pl.DataFrame, features: list[str]) -> HistGradientBoostingClassifier:
    """Return a small model, the same for the same examples."""
    model = HistGradientBoostingClassifier(
        max_iter=40, learning_rate=0.2, early_stopping=False, random_state=13
    )
    return model.fit(matrix(examples, features), examples["late"].to_numpy())


def auc(
    model: HistGradientBoostingClassifier, values: Matrix, late: npt.NDArray[np.bool_]
) -> float:
    """Return how often the model puts a late flight above one on time: 0.5 is guessing."""
    return float(roc_auc_score(late, model.predict_proba(values)[:, 1]))


def leaked_column(
    model: HistGradientBoostingClassifier,
    leaking: Matrix,
    honest: Matrix,
    late: npt.NDArray[np.bool_],
) -> tuple[int, float]:
    """Return the column whose honest values cost the model most, and the AUC that is left."""
    some = np.random.default_rng(13).choice(len(late), size=min(len(late), 20_000), replace=False)
    left = []
    for column in range(leaking.shape[1]):
        mixed = leaking[some]
        mixed[:, column] = honest[some, column]
        left.append(auc(model, mixed, late[some]))
    worst = int(np.argmin(left))
    mixed = leaking.copy()
    mixed[:, worst] = honest[:, worst]
    return worst, auc(model, mixed, late)


# ---- the server


@contextmanager
def served() -> Iterator[FeatureStoreClient]:
    """Start `featurestore serve` on a free port of this machine, and stop it in any case."""
    address = free_address()
    print(flush=True)
    started = perf_counter()
    server = subprocess.Popen([COMMAND, "serve", "--address", address], cwd=REPO)
    try:
        with FeatureStoreClient(address) as client:
            client.wait_ready(30)
            say(f"the client sees it {perf_counter() - started:.1f} s after its start")
            yield client
    finally:
        stop(server)
    print(f"\nThe server stopped with code {server.returncode}", flush=True)


def stop(server: subprocess.Popen[bytes]) -> None:
    """Ask a server to stop, and insist if it does not."""
    server.terminate()
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def free_address() -> str:
    """Return an address of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def look_up(client: FeatureStoreClient, flights: pl.DataFrame) -> tuple[OnlineFeatures, float]:
    """Return the features of flights as they are online now, and how long a call takes, in ms."""
    reply = client.get_online_features(SERVICE, flights.select(KEYS), full_feature_names=True)
    seconds = []
    for _ in range(LOOK_UPS):
        started = perf_counter()
        client.get_online_features(SERVICE, flights.select(KEYS), full_feature_names=True)
        seconds.append(perf_counter() - started)
    return reply, median(seconds) * 1e3


def count_statuses(reply: OnlineFeatures) -> dict[str, int]:
    """Return how many values have each status."""
    statuses = [status.name for column in reply.statuses.values() for status in column]
    return {name: statuses.count(name) for name in sorted(set(statuses))}


# ---- printing


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a title, and how long what follows took."""
    print(f"\n{title}", flush=True)
    started = perf_counter()
    yield
    say(f"[{perf_counter() - started:.1f} s]")


def say(*lines: str) -> None:
    """Print indented lines."""
    for line in lines:
        print(f"  {line}", flush=True)


def run_command(*arguments: str) -> None:
    """Run `featurestore` in this repository; fail as it does."""
    subprocess.run([COMMAND, *arguments], cwd=REPO, check=True)


if __name__ == "__main__":
    main()
