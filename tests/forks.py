"""Processes for tests that are forks of one which has imported what they need."""

import multiprocessing
from collections.abc import Callable
from typing import Any, Final

FORKS: Final = multiprocessing.get_context("forkserver")
_PATIENCE_S: Final = 240

# There are hundreds of processes, and each would spend most of its time on these.
FORKS.set_forkserver_preload(
    [
        __name__,
        "duckdb",
        "featurestore.datasets.catalog",
        "featurestore.materialize.views",
        "featurestore.offline.duckdb",
        "featurestore.online.lmdb",
        "featurestore.online.redis",
        "lmdb",
        "numpy.ma",
        "pandas",  # by Arrow, with the first array that is made
        "polars",
        "pyarrow.parquet",
        "redis",
        "sqlalchemy.dialects.sqlite",
        "tests.conformance.test_many_writers",
        "tests.property.dying",
        "tests.repo.doc_page",
    ]
)


def in_a_process(work: Callable[..., object], *arguments: Any) -> int:
    """Return the exit code of a process that does some work."""
    process = FORKS.Process(target=work, args=arguments)
    process.start()
    process.join(_PATIENCE_S)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode
