"""Tables, progress and reports of errors, without a repository."""

import contextlib
import io
import json
import os
import pty
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from featurestore.cli import exits, failures
from featurestore.cli.bar import Bar
from featurestore.cli.output import one_line, print_facts, print_table
from featurestore.cli.progress import Lines, progress, rate_text
from featurestore.cli.session import Session, UsageError
from featurestore.errors import LeaseHeldError, SourceError
from featurestore.naming import printable


def session(
    *, as_json: bool = False, debug: bool = False
) -> tuple[Session, io.StringIO, io.StringIO]:
    out, err = io.StringIO(), io.StringIO()
    return Session(out=out, err=err, as_json=as_json, debug=debug), out, err


def test_a_table_for_a_program_is_neither_wrapped_nor_padded() -> None:
    out = io.StringIO()
    print_table(out, ("name", "rows"), [("a" * 200, 1_000), ("[red]b[/] :smile:", None)])
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["name", "rows"]
    assert lines[2].endswith(f"{'a' * 200}   1,000")
    assert lines[3] == "[red]b[/] :smile:"


def test_a_cell_cannot_move_the_cursor_or_fill_the_screen() -> None:
    out = io.StringIO()
    print_table(out, ("\x1b]0;n\x07",), [("\x1b[2J\r\nx",), ("y" * 5_000,)])
    lines = out.getvalue().splitlines()
    assert lines[0] == r"\x1b]0;n\x07"
    assert lines[2] == r"\x1b[2J\r\nx"
    assert len(lines[3]) < 400


def test_facts_without_a_value_are_left_out() -> None:
    out = io.StringIO()
    print_facts(out, {"owner": "me", "description": "", "zone": None, "generation": 3})
    assert out.getvalue() == "owner       me\ngeneration  3\n"


def test_a_facts_name_is_no_less_hostile_than_its_value() -> None:
    out = io.StringIO()
    print_facts(out, {"\x1b[2J\nrows": 1, "n" * 5_000: 2})
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].split() == [r"\x1b[2J\nrows", "1"]
    assert len(lines[1]) < 400


def test_text_of_several_lines_becomes_one() -> None:
    assert one_line("a\n  b\tc\x00") == r"a b c\x00"
    assert printable("h\u00e9\u2028") == "h\u00e9\\u2028"


def test_an_error_is_a_line_and_a_hint() -> None:
    running, out, err = session()
    error = SourceError("It is\nbroken.", source="s", file="f", hint="mend it")
    assert failures.report_error(running, error) == exits.ERROR
    assert (out.getvalue(), err.getvalue()) == ("", "error: It is broken.\nhint: mend it\n")


def test_an_error_as_json_has_its_facts_and_whether_to_retry() -> None:
    running, out, _ = session(as_json=True)
    error = LeaseHeldError(view="v", holder="h", expires_in_s=1.5)
    assert failures.report_error(running, error) == exits.RETRY
    told = json.loads(out.getvalue())["error"]
    assert told["retryable"] is True
    assert told["facts"] == {"view": "v", "holder": "h", "expires_in_s": 1.5, "held_for_s": None}


def test_what_is_no_json_is_not_printed_in_part() -> None:
    running, out, _ = session(as_json=True)
    with pytest.raises(ValueError, match="JSON"):
        running.answer({"rows": 1, "mean": float("nan")})
    assert (out.getvalue(), running.answered) == ("", False)


def test_an_error_after_the_document_does_not_print_a_second_one() -> None:
    running, out, err = session(as_json=True)
    running.answer({"rows": 1})
    failures.report_error(running, SourceError("Late.", source="s"))
    assert json.loads(out.getvalue()) == {"schema_version": 1, "rows": 1}
    assert err.getvalue() == "error: Late.\n"


@pytest.mark.parametrize("debug", [False, True])
def test_a_defect_names_its_type_and_how_to_learn_more(debug: bool) -> None:  # noqa: FBT001
    running, _, err = session(debug=debug)
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("in\nhere")
    assert failures.report_bug(running, caught.value) == exits.BUG
    lines = err.getvalue().splitlines()
    assert lines[-2] == "error: ZeroDivisionError: in here"
    assert "--debug" in lines[-1]
    assert ("Traceback (most recent call last):" in lines) is debug
    assert (len(lines) == 2) is not debug


def test_the_page_about_the_command_line_has_every_exit_code() -> None:
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    _, _, table = page.partition("## Exit codes")
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ")]
    codes = {int(code) for row in rows[1:] for code in row.split(",") if code.strip().isdigit()}
    assert codes == {*exits.MEANINGS}


def test_options_that_do_not_go_together_are_a_usage_error() -> None:
    running, _, err = session()
    assert failures.report_usage(running, UsageError("Not both.")) == exits.USAGE
    assert err.getvalue() == "error: Not both.\n"


def test_progress_says_how_much_how_fast_and_how_long() -> None:
    assert rate_text(20_000, 80_000, 2.0, "rows") == (
        "20,000 of 80,000 rows (25 %), 10,000 rows/s, 0:00:06 left"
    )
    assert rate_text(0, 10, 0.0, "rows") == "0 of 10 rows (0 %)"
    assert rate_text(0, 0, 1.0, "rows") == "0 of 0 rows"
    assert rate_text(1, 7_201, 1.0, "rows").endswith("2:00:00 left")


class Timeline:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_takes_less_than_a_second_reports_nothing() -> None:
    out, clock = io.StringIO(), Timeline()
    lines = Lines(out, unit="rows", now=clock)
    clock.now += 30  # what comes before the first report is no part of it
    lines.report("view", 1, 10)
    clock.now += 0.9
    lines.report("view", 10, 10)
    assert out.getvalue() == ""


def test_without_a_terminal_progress_is_a_line_every_five_seconds() -> None:
    out, clock = io.StringIO(), Timeline()
    lines = Lines(out, unit="rows", now=clock)
    for done in range(1, 13):
        clock.now += 1
        lines.report("one", done * 100, 1_200)
    clock.now += 5
    lines.report("two", 300, 600)
    assert out.getvalue().splitlines() == [
        "one: 200 of 1,200 rows (16 %), 100 rows/s, 0:00:10 left",
        "one: 700 of 1,200 rows (58 %), 100 rows/s, 0:00:05 left",
        "one: 1,200 of 1,200 rows (100 %), 100 rows/s, 0:00:00 left",
        "two: 300 of 600 rows (50 %), 60 rows/s, 0:00:05 left",
    ]


def test_quiet_reports_no_progress() -> None:
    running, _, err = session()
    running.quiet = True
    with progress(running, "rows") as report:
        report("view", 1, 2)
    running.note("nothing")
    assert err.getvalue() == ""


@contextlib.contextmanager
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A terminal to print to, and the descriptor that shows what was printed."""
    reader, writer = pty.openpty()
    try:
        with os.fdopen(writer, "w", encoding="utf-8") as stream:
            yield stream, reader
    finally:
        os.close(reader)


def test_on_a_terminal_progress_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with terminal() as (stream, reader):
        with Bar(stream, unit="rows", after_s=0.0) as bar:
            bar.report("profile", 500, 1_000)
            shown = read_until(reader, "500 of 1,000 rows (50 %)")
        left = read_until(reader, "\x1b[2K")
    assert "profile" in shown
    assert left.rstrip().endswith("\x1b[2K")


def read_until(reader: int, text: str) -> str:
    """Return what a terminal shows up to some text; without it this waits until pytest gives up."""
    shown = ""
    while text not in shown:
        shown += os.read(reader, 65_536).decode(errors="replace")
    return shown


def test_a_bar_that_is_over_before_its_time_shows_nothing() -> None:
    with terminal() as (stream, reader):
        with Bar(stream, unit="rows", after_s=60.0) as bar:
            bar.report("profile", 1_000, 1_000)
        stream.write("end")
        stream.flush()
        assert os.read(reader, 100) == b"end"
