"""What can go wrong with a benchmark, as opposed to with what it measures.

BenchmarkError
├── ToolMissingError      a program that a workload needs is not installed
├── JobFailedError        a measured process failed; carries what it said
│   └── JobTooLongError   it was stopped, because it ran for too long
└── WrongAnswerError      a side answered something else than the data says
"""


class BenchmarkError(Exception):
    """A benchmark could not be run or judged; the message says what to do."""


class ToolMissingError(BenchmarkError):
    """A program that a workload needs is not installed."""


class JobFailedError(BenchmarkError):
    """A measured process failed."""


class JobTooLongError(JobFailedError):
    """A measured process was stopped, because it ran for too long."""


class WrongAnswerError(BenchmarkError):
    """A side gave another answer than the data holds: its speed means nothing."""
