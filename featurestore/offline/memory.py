"""How much memory there is."""

import os
import re
from pathlib import Path

from featurestore.errors import ConfigError

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_memory() -> int:
    """Return the bytes of memory that this process has: the container's, if that has a limit."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def limit_bytes(limit: str | None) -> int:
    """Return a limit such as "4GB", "512MiB" or "60%" in bytes; None is all of `machine_memory`.

    Raises:
        ConfigError: It is more than all.
    """
    if limit is None:
        return machine_memory()
    found = re.fullmatch(r"\s*([0-9.]+)\s*([a-zA-Z%]*)\s*", limit)
    if found is None:
        return machine_memory()  # who is given such a limit refuses it
    number, unit = float(found[1]), found[2].upper()
    if unit == "%":
        if number > 100:  # noqa: PLR2004 - per cent
            raise ConfigError(f"offline_store.memory_limit: {limit!r} is more than there is.")
        return int(machine_memory() * number / 100)
    power = "KMGT".find(unit[:1]) + 1 if unit not in ("", "B", "BYTES") else 0
    return int(number * (1024 if "I" in unit else 1000) ** power)
