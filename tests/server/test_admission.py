"""When calls are held back, by a clock that a test moves."""

import pytest
from featurestore_server.admission import (
    PATIENCE_S,
    REFUSAL_S,
    REFUSING_SHARE,
    TARGET_S,
    UNBOUNDED,
    Admission,
)

PER_CALL_S = 0.001
TOO_MANY = int(TARGET_S / PER_CALL_S) + 1


class Clock:
    """Seconds that pass when somebody says so."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def admission(clock: Clock) -> Admission:
    """One that knows how long an answer takes."""
    found = Admission(now=clock)
    for _ in range(200):
        found.answered(10, 10 * PER_CALL_S)
    return found


def _overload(admission: Admission, clock: Clock) -> None:
    admission.room(TOO_MANY)
    clock.now_s += PATIENCE_S * 1.01
    assert admission.room(TOO_MANY) < UNBOUNDED


def test_a_queue_that_is_short_enough_holds_nothing_back(
    admission: Admission, clock: Clock
) -> None:
    for _ in range(100):
        clock.now_s += 1
        assert admission.room(TOO_MANY - 2) == UNBOUNDED
        assert not admission.refuses(TOO_MANY - 2)


def test_a_burst_is_no_overload(admission: Admission, clock: Clock) -> None:
    assert admission.room(0) == UNBOUNDED
    clock.now_s += 60  # nothing happens
    assert not admission.refuses(10_000)
    clock.now_s += PATIENCE_S * 0.9
    assert not admission.refuses(10_000)
    assert admission.room(0) == UNBOUNDED  # it was caught up with
    clock.now_s += PATIENCE_S * 0.9
    assert not admission.refuses(10_000)


def test_a_queue_that_stays_long_is_an_overload(admission: Admission, clock: Clock) -> None:
    _overload(admission, clock)
    assert admission.refuses(TOO_MANY)
    assert admission.room(5) - admission.room(TOO_MANY) == TOO_MANY - 1 - 5
    assert not admission.refuses(5)  # it need not wait long


def test_refusals_are_paid_for_by_answers(admission: Admission, clock: Clock) -> None:
    _overload(admission, clock)
    at_first = sum(admission.refuses(TOO_MANY) for _ in range(1_000))
    assert admission.room(TOO_MANY) == 0
    admission.answered(3, 3 * PER_CALL_S)
    then = sum(admission.refuses(TOO_MANY) for _ in range(1_000))
    assert (at_first, then) == (64, int(REFUSING_SHARE * 3 * PER_CALL_S / REFUSAL_S))


def test_an_overload_ends_once_the_queue_has_been_short_for_a_while(
    admission: Admission, clock: Clock
) -> None:
    _overload(admission, clock)
    assert admission.room(0) < UNBOUNDED
    clock.now_s += PATIENCE_S * 0.9
    assert admission.room(TOO_MANY // 2) < UNBOUNDED  # not that short
    assert admission.room(0) < UNBOUNDED
    clock.now_s += PATIENCE_S * 0.9
    assert admission.room(0) < UNBOUNDED
    clock.now_s += PATIENCE_S * 0.2
    assert admission.room(0) == UNBOUNDED


def test_answers_at_the_same_time_count_as_one(clock: Clock) -> None:
    admission = Admission(now=clock)
    for _ in range(200):
        admission.answered(1, 4 * PER_CALL_S, at_once=4)
    _overload(admission, clock)
    spare = admission.room(0) - admission.room(TOO_MANY)
    assert spare == pytest.approx(TARGET_S / PER_CALL_S, abs=1)


def test_it_can_be_switched_off(clock: Clock) -> None:
    admission = Admission(0, now=clock)
    admission.answered(1, 1.0)
    for _ in range(10):
        clock.now_s += 1
        assert admission.room(10**6) == UNBOUNDED
        assert not admission.refuses(10**6)
