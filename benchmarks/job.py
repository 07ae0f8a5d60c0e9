"""The inside of a measured process: one job, one report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.process import own_peak_mb

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def serve_jobs(jobs: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
    """Run the job that the command line names; write what it reports, with its peak memory.

    A job that goes on after its measured part reports the peak of that part itself.
    """
    _, name, arguments, report = sys.argv
    found = jobs[name](json.loads(arguments))
    Path(report).write_text(json.dumps({"peak_mb": own_peak_mb(), **found}))
