"""Who can play a scenario, and the check that the answers are the expected ones."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from featurestore import errors
from featurestore.testing.oracle import Status
from featurestore.testing.plain import PlainTable, difference
from featurestore.testing.scenario import (
    Append,
    Delete,
    ExpectedError,
    LookUp,
    Materialize,
    Push,
    Scenario,
    SetClock,
    Step,
    Train,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a look-up.

    Attributes:
        table: Join keys, then features in the order asked; null where a value is withheld.
        statuses: Feature -> one status per entity.
        event_times: View or role -> event time of the row served in microseconds, None without one.
        request_us: The request time in microseconds.
    """

    table: pa.Table
    statuses: Mapping[str, Sequence[Status]]
    event_times: Mapping[str, Sequence[int | None]]
    request_us: int


class Runner(Protocol):
    """Plays the steps of one scenario."""

    def start(self, scenario: Scenario) -> None:
        """Write the sources' files, apply the definitions, set the clock."""
        ...

    def set_clock(self, now_us: int) -> None:
        """Make it this time, for everybody."""
        ...

    def append(self, source: str, file: str, rows: PlainTable) -> None:
        """Add rows at the end of a source's file, or make the file."""
        ...

    def push(self, call: Push) -> None:
        """Write rows of a view's source into the online store."""
        ...

    def delete(self, entity: Mapping[str, object]) -> None:
        """Delete an entity from all online views about it."""
        ...

    def train(self, call: Train) -> pa.Table:
        """Return the training set."""
        ...

    def materialize(self, call: Materialize) -> None:
        """Bring values online."""
        ...

    def look_up(self, call: LookUp) -> Reply:
        """Return the online values."""
        ...

    def is_expected(self, error: Exception, expected: ExpectedError) -> bool:
        """Whether an error is the one that the scenario wants."""
        ...


def play(scenario: Scenario, runner: Runner) -> None:
    """Play a scenario and check every answer.

    Raises:
        AssertionError: An answer is not the expected one; it names scenario, step and difference.
    """
    runner.start(scenario)
    for number, step in enumerate(scenario.steps):
        with _told(f"{scenario.id}, step {number} ({type(step).__name__}): {scenario.name}"):
            play_step(step, runner)


@contextmanager
def _told(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note(where)
        raise


def play_step(step: Step, runner: Runner) -> None:
    """Play one step and check its answer, as `play` does."""
    if isinstance(step, SetClock):
        runner.set_clock(step.now_us)
    elif isinstance(step, Append):
        runner.append(step.source, step.file, step.rows)
    elif isinstance(step, Delete):
        runner.delete(step.entity)
    elif step.error is not None:
        _check_error(step, step.error, runner)
    elif isinstance(step, Materialize):
        runner.materialize(step)
    elif isinstance(step, Push):
        runner.push(step)
    elif isinstance(step, Train):
        _check_training_set(runner.train(step), step)
    else:
        _check_reply(runner.look_up(step), step)


def _check_error(
    step: Train | LookUp | Materialize | Push, expected: ExpectedError, runner: Runner
) -> None:
    try:
        if isinstance(step, Train):
            runner.train(step)
        elif isinstance(step, LookUp):
            runner.look_up(step)
        elif isinstance(step, Push):
            runner.push(step)
        else:
            runner.materialize(step)
    except Exception as error:
        if not runner.is_expected(error, expected):
            raise
        _check_message(str(error), expected)
    else:
        raise AssertionError(f"no error, expected {expected.type} that says {expected.words}")


def _check_message(message: str, expected: ExpectedError) -> None:
    missing = [word for word in expected.words if word not in message]
    assert not missing, f"the message {message!r} does not say {missing}"


def _check_training_set(found: pa.Table, step: Train) -> None:
    assert step.expected is not None
    assert (text := difference(found, step.expected.to_arrow())) is None, text


def _check_reply(found: Reply, step: LookUp) -> None:
    assert step.expected is not None
    assert (text := difference(found.table, step.expected.to_arrow())) is None, text
    for name, statuses in step.statuses.items():
        assert list(found.statuses[name]) == list(statuses), (
            f"statuses of {name!r} are {list(found.statuses[name])}, expected {list(statuses)}"
        )
    for view, times in step.event_times.items():
        assert list(found.event_times[view]) == list(times), (
            f"event times of {view!r} are {list(found.event_times[view])}, expected {list(times)}"
        )


def is_core_error(error: Exception, expected: ExpectedError) -> bool:
    """Whether an error is of the class of `featurestore.errors` that a scenario names."""
    return isinstance(error, getattr(errors, expected.type))
