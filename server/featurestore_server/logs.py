"""What the processes of a server write to standard error: lines of text, or of JSON.

The standard library's logging and a formatter of a few lines: structlog would be one more
dependency of every worker, and what gRPC and the online stores log would come through
`logging` all the same.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, Final

_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; whatever else it has was bound with `extra=`."""

_MAX_MESSAGE: Final = 8_192


class JsonFormatter(logging.Formatter):
    """One JSON object a line: what every line has, then what was bound with `extra=`.

    Args:
        process: What this process is: "parent", "worker" or "backend".
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line of JSON."""
        moment = datetime.fromtimestamp(record.created, UTC)
        facts: dict[str, Any] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage()[:_MAX_MESSAGE],
            "process": self._process,
            "pid": record.process,
        }
        facts |= {name: value for name, value in vars(record).items() if name not in _OWN}
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return json.dumps(facts, ensure_ascii=False, default=str)


def set_up_logging(log_format: str, *, process: str) -> None:
    """Send what is logged to standard error.

    Args:
        log_format: "json", or "text", which leaves it as it is if somebody chose already.
        process: What this process is: "parent", "worker" or "backend".
    """
    is_json = log_format == "json"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(process)
        if is_json
        else logging.Formatter(f"%(asctime)s %(levelname)s {process} {os.getpid()}: %(message)s")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=is_json)
    logging.captureWarnings(is_json)
