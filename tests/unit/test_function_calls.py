"""What a Python function gets and has to return, and how its failures are reported."""

import sys
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from featurestore.errors import FunctionCallError
from featurestore.functions.batches import BatchFunction
from featurestore.functions.modules import LoadedFunction
from featurestore.functions.row_wise import check_row_wise
from featurestore.functions.takes import Takes

X = pa.array([1.0, None, 3.0])


def function(
    call: Any, output: pa.DataType | None = None, *, takes: Takes = "record batch"
) -> BatchFunction:
    """Return a function of x: float64 that has to return y."""
    loaded = LoadedFunction(
        reference="scoring:f", sha256="0" * 64, file=Path(__file__), takes=takes, call=call
    )
    return BatchFunction(
        view="scored",
        function=loaded,
        inputs=pa.schema([("x", pa.float64())]),
        outputs=pa.schema([("y", output or pa.float64())]),
    )


def returning(array: Any) -> Any:
    return lambda _: pa.record_batch({"y": array})


def test_a_function_gets_its_inputs_by_name_and_in_the_form_that_it_takes() -> None:
    seen: list[Any] = []

    def call(given: Any) -> pa.RecordBatch:
        seen.append(given)
        return pa.record_batch({"y": X})

    for takes in ("record batch", "table", "polars"):
        function(call, takes=takes).run([X], 3)
    assert [type(given) for given in seen] == [pa.RecordBatch, pa.Table, pl.DataFrame]
    assert all(pa.table(given).to_pydict() == {"x": [1.0, None, 3.0]} for given in seen)


def test_a_function_is_not_called_without_rows() -> None:
    (found,) = function(pytest.fail).run([X.slice(0, 0)], 0)
    assert (len(found), found.type) == (0, pa.float64())


@pytest.mark.parametrize(
    ("returned", "declared", "value"),
    [
        (pa.array([1, 2, 3], pa.int32()), pa.int64(), 1),
        (pa.array([1, 2, 3], pa.int32()), pa.float64(), 1.0),
        (pa.array([None, None, None]), pa.string(), None),
        (pa.array(["a", "b", "c"], pa.large_string()), pa.string(), "a"),
        (pa.array(["a", "b", "c"], pa.string_view()), pa.string(), "a"),
        (pa.array(["a", "b", "c"]).dictionary_encode(), pa.string(), "a"),
        (pa.array([[1], None, []], pa.large_list(pa.int32())), pa.list_(pa.int64()), [1]),
    ],
)
def test_what_holds_the_same_values_is_taken_for_the_declared_type(
    returned: pa.Array, declared: pa.DataType, value: object
) -> None:
    (found,) = function(returning(returned), declared).run([X], 3)
    assert found.type == declared
    assert found[0].as_py() == value


def test_times_are_instants_and_not_finer_than_microseconds() -> None:
    declared = pa.timestamp("us", tz="UTC")
    local = pa.array([0, 1, 2], pa.int64()).view(pa.timestamp("s", tz="Europe/Vienna"))
    (found,) = function(returning(local), declared).run([X], 3)
    assert found.cast(pa.int64()).to_pylist() == [0, 1_000_000, 2_000_000]
    finer = pa.array([0, 1, 2], pa.int64()).view(pa.timestamp("ns", tz="UTC"))
    with pytest.raises(FunctionCallError, match="finer than a microsecond in 'y'"):
        function(returning(finer), declared).run([X], 3)


WRONG: dict[str, tuple[Any, str]] = {
    "too few rows": (lambda b: b.rename_columns(["y"]).slice(1), "it returned 2 rows for 3"),
    "another name": (lambda b: b, "it returned no column 'y'; it has 'x'"),
    "one column more": (
        lambda b: pa.record_batch({"x": b["x"], "y": b["x"]}),
        "the column 'x', which its view does not declare",
    ),
    "one column twice": (
        lambda b: pa.RecordBatch.from_arrays([b["x"], b["x"]], names=["y", "y"]),
        "a column twice",
    ),
    "another type": (returning(pa.array(["a", "b", "c"])), "'y' as string.*declares as float64"),
    "a wider type": (returning(pa.array([1, 2, 3])), "'y' as int64.*declares as float64"),
    "nothing": (lambda _: None, "it returned a NoneType"),
    "a dictionary": (lambda _: {"y": [1.0, 2.0, 3.0]}, "it returned a dict"),
    "a series": (lambda _: pl.Series("y", [1.0, 2.0, 3.0]), "it returned a Series"),
    "an exception": (lambda _: 1 / 0, r"ZeroDivisionError: division by zero \(test_function"),
    "an exit": (lambda _: sys.exit(3), "SystemExit: 3"),
}


@pytest.mark.parametrize("case", WRONG)
def test_anything_else_is_an_error_that_names_view_function_and_rows(case: str) -> None:
    call, reason = WRONG[case]
    with pytest.raises(FunctionCallError, match=reason) as caught:
        function(call).run([X], 3, first_row=100)
    error = caught.value
    assert (error.view, error.function) == ("scored", "scoring:f")
    assert (error.first_row, error.last_row) == (100, 102)
    assert "'scoring:f' of on-demand feature view 'scored', rows 100 to 102" in str(error)


def test_a_long_text_of_an_exception_is_one_short_line() -> None:
    def call(_: object) -> None:
        raise ValueError("a" * 10_000 + "\nsecret")

    with pytest.raises(FunctionCallError) as caught:
        function(call).run([X], 3)
    assert len(caught.value.reason) < 300
    assert "secret" not in str(caught.value)


def plus_mean(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"y": pc.add(batch["x"], pc.mean(batch["x"]))})


def running(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"y": pc.cumulative_sum(batch["x"])})


def fill_from_before(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"y": pc.fill_null_forward(batch["x"])})


@pytest.mark.parametrize("call", [plus_mean, running, fill_from_before])
def test_a_function_that_looks_at_other_rows_is_found_out(call: Any) -> None:
    tried = function(call)
    with pytest.raises(FunctionCallError, match="not row-wise") as caught:
        check_row_wise(tried, [X], tried.run([X], 3), 3, first_row=10)
    assert 10 <= caught.value.first_row == caught.value.last_row <= 12


def test_a_function_that_differs_from_call_to_call_is_found_out() -> None:
    calls = iter(range(100))
    tried = function(lambda b: pa.record_batch({"y": [float(next(calls))] * b.num_rows}))
    with pytest.raises(FunctionCallError, match="not the same twice"):
        check_row_wise(tried, [X], tried.run([X], 3), 3)


def test_a_function_that_fails_for_one_row_alone_is_found_out() -> None:
    tried = function(lambda b: b.rename_columns(["y"]) if b.num_rows > 1 else 1 / 0)
    with pytest.raises(FunctionCallError, match="row 0: ZeroDivisionError"):
        check_row_wise(tried, [X], tried.run([X], 3), 3)


@pytest.mark.parametrize(
    ("dtype", "last_digit"), [(pa.float32(), 2e-7), (pa.float64(), 3e-16)], ids=str
)
@pytest.mark.parametrize("in_lists", [False, True])
def test_the_last_digit_of_a_float_does_not_count(
    dtype: pa.DataType,
    last_digit: float,
    in_lists: bool,  # noqa: FBT001 - a parameter of a test
) -> None:
    xs = pa.array([1.0, float("nan"), -1e30, None])

    def call(batch: pa.RecordBatch) -> pa.RecordBatch:
        factor = 1 + last_digit if batch.num_rows == 1 else 1.0
        y = pc.multiply(batch["x"], factor).cast(dtype)
        offsets = pa.array(range(len(y) + 1), pa.int32())
        return pa.record_batch({"y": pa.ListArray.from_arrays(offsets, y) if in_lists else y})

    tried = function(call, pa.list_(dtype) if in_lists else dtype)
    found = tried.run([xs], 4)
    assert not found[0].slice(0, 1).equals(tried.run([xs.slice(0, 1)], 1)[0])
    check_row_wise(tried, [xs], found, 4)


def test_rows_of_a_large_batch_are_compared_from_the_first_to_the_last() -> None:
    seen: list[float] = []

    def call(batch: pa.RecordBatch) -> pa.RecordBatch:
        seen.extend(batch["x"].to_pylist())
        return batch.rename_columns(["y"])

    xs = pa.array([float(n) for n in range(1_000)])
    check_row_wise(function(call), [xs], [xs], 1_000, rows=5)
    assert seen == [0.0, 249.0, 499.0, 749.0, 999.0]
