"""`python -m featurestore_server.backend`, started by the supervisor.

It reads its task from standard input, whose end means that the parent is gone, and that this
process stops too. It reports on standard output and logs on standard error.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from featurestore.config import RepoConfig, make_config
from featurestore.offline.factory import share_of
from featurestore.store import FeatureStore
from featurestore.time import parse_clock
from featurestore_server.backend.server import BackendServer
from featurestore_server.logs import set_up_logging
from featurestore_server.options import BackendOptions
from featurestore_server.protocol import BackendTask, report_failure, report_ready
from featurestore_server.worker import begin, wait_for

LOGGER: Final = logging.getLogger("featurestore_server")


def main() -> int:
    """Serve until told to stop; return the exit code."""
    stop, reports, told = begin()
    task = BackendTask.from_line(next(told))
    set_up_logging(task.log_format, process="backend")
    try:
        with opened_store(task.options) as store:
            server = BackendServer(store, limits=task.options.limits)
            server.listen(task.target)
            server.start()
            report_ready(reports)
            threading.Thread(target=_follow_parent, args=(told, stop), daemon=True).start()
            wait_for(stop)
            server.stop(task.grace_s)
    except Exception as error:
        LOGGER.exception("the backend cannot serve")
        report_failure(reports, error)
        return 1
    return 0


def opened_store(options: BackendOptions) -> FeatureStore:
    """Return the store that the options name, with an engine that several jobs share."""
    config = make_config(options.settings, root=Path(options.root), environment={})
    return FeatureStore(
        config.root,
        config=_shared(config, options.limits.training_jobs),
        clock=parse_clock(options.clock),
        source_roots=list(map(Path, options.source_roots)),
    )


def _shared(config: RepoConfig, jobs: int) -> RepoConfig:
    if jobs == 1:
        return config
    offline = share_of(config.settings.offline_store, jobs)
    return replace(config, settings=config.settings.model_copy(update={"offline_store": offline}))


def _follow_parent(told: Iterator[str], stop: threading.Event) -> None:
    for _ in told:
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
