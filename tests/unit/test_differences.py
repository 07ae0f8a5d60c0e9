"""The comparison with Feast: what it lets pass, and what it does not."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from tests.differential.differences import compared, refusal, same
from tests.differential.repositories import ROW, Case, View, draw

VIEW = View(
    name="v",
    keys=("user_id",),
    features={"a": "int64"},
    ttl_hours=1,
    has_created=True,
    is_naive=False,
)


def at(hour: int, microsecond: int = 0) -> datetime:
    return datetime(2024, 1, 1, hour, microsecond=microsecond, tzinfo=UTC)


def case(*rows: tuple[datetime, datetime | None, int]) -> Case:
    """A view of these (event time, created time, a) of user 1, asked at 10:00."""
    events, created, values = zip(*rows, strict=True)
    columns = {"user_id": [1] * len(rows), "event_timestamp": events, "created": created}
    spine = pa.table({"user_id": [1], "event_timestamp": [at(10)], ROW: [0]})
    return Case(views=(VIEW,), rows={"v": pa.table({**columns, "a": values})}, spine=spine)


def differences(drawn: Case, ours: Any, feasts: Any, mode: str = "complete") -> list[str]:
    tables = (drawn.spine.append_column("v__a", pa.array([a], pa.int64())) for a in (ours, feasts))
    return list(compared(drawn, mode, *tables))


def test_equal_answers_do_not_differ() -> None:
    assert differences(case((at(9), at(9), 7)), 7, 7) == []


def test_a_row_of_a_tie_may_win_and_no_other() -> None:
    tied = case((at(9), at(9), 1), (at(9), at(9), 2), (at(9), at(8), 3), (at(8), at(9), 4))
    assert differences(tied, 2, 1) == ["tie"]
    assert "Feast has [3], we have [2]" in differences(tied, 2, 3)[0]
    assert differences(tied, 2, None) != []


def test_a_difference_without_a_tie_has_no_excuse() -> None:
    assert differences(case((at(9), at(9), 1), (at(9), None, 2)), 1, 2) != []
    assert differences(case((at(8), at(8), 1)), 1, None) != []
    assert differences(case((at(11), at(11), 1)), None, 1) != []


def test_rows_that_were_not_written_yet_tie_with_nothing() -> None:
    late = case((at(9), at(11), 1), (at(9), at(11), 2), (at(9), at(10), 3))
    assert differences(late, 3, 1, "as_served") != []


def test_a_lost_row_and_one_too_many_differ() -> None:
    drawn = case((at(9), at(9), 1))
    ours = drawn.spine.append_column("v__a", pa.array([1]))
    for feasts in (ours.slice(1), pa.concat_tables([ours, ours])):
        assert "Feast's rows are" in next(iter(compared(drawn, "complete", ours, feasts)))


def test_another_order_is_named() -> None:
    drawn = case((at(9), at(9), 1))
    spine = pa.table({"user_id": [1, 1], "event_timestamp": [at(10)] * 2, ROW: [0, 1]})
    ours = spine.append_column("v__a", pa.array([1, 1]))
    assert list(compared(drawn, "complete", ours, ours.take([1, 0]))) == ["order"]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (float("nan"), float("nan"), True),
        (float("nan"), None, False),
        (1, 1.0, False),
        (True, 1, False),
        (None, None, True),
        ("", None, False),
    ],
)
def test_values_are_the_same_in_type_and_value(a: Any, b: Any, expected: bool) -> None:  # noqa: FBT001 - a parameter of a test
    assert same(a, b) is expected


def test_only_what_has_a_reason_may_be_refused() -> None:
    text = "IbisTypeError: Column 'v__c_y' is not found in table."
    assert refusal(case((at(9), at(9), 1)), text) is None
    view = View(**{**{f: getattr(VIEW, f) for f in VIEW.__slots__}, "features": {"c_y": "int64"}})
    assert refusal(Case(views=(view,), rows={}, spine=pa.table({})), text) is not None
    assert refusal(Case(views=(view,), rows={}, spine=pa.table({})), "OSError: no") is None


def test_a_number_draws_the_same_case_and_numbers_draw_all_kinds() -> None:
    assert draw(7).spine.equals(draw(7).spine)
    views = [view for seed in range(1, 50) for view in draw(seed).views]
    assert {view.ttl_hours for view in views} == {None, 1, 3, 24}
    assert {view.keys for view in views} == {("user_id",), ("shop",), ("user_id", "shop")}
    assert (
        {view.has_created for view in views} == {view.is_naive for view in views} == {True, False}
    )
