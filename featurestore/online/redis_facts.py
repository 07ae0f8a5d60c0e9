"""What Redis says of itself -> what an operator should know."""

from typing import Final

from featurestore.online.store import Finding

OLDEST: Final = (6, 2)
MAX_CLOCK_DIFFERENCE_S: Final = 2.0


def findings(info: str | bytes, *, address: str, ahead_s: float) -> list[Finding]:
    """Return the findings that follow from the reply to INFO.

    Args:
        info: The reply.
        address: Where the server is, without user and password.
        ahead_s: Seconds by which the server's clock is ahead of ours.
    """
    text = info.decode() if isinstance(info, bytes) else info
    facts = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return [
        _version(facts, address),
        _memory(facts),
        _eviction(facts),
        _persistence(facts),
        _role(facts),
        _clock(ahead_s),
    ]


def _version(facts: dict[str, str], address: str) -> Finding:
    version = facts.get("redis_version", "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    name = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {version}"
    if numbers < OLDEST:
        return Finding(subject="version", status="error", detail=f"{name}: 6.2 or newer is needed")
    return Finding(subject="version", status="ok", detail=f"{name} at {address}")


def _memory(facts: dict[str, str]) -> Finding:
    used, limit = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    if not limit:
        return Finding(subject="memory", status="ok", detail=f"{used:,} bytes used, no limit set")
    status = "ok" if used < 0.8 * limit else "warning"
    return Finding(subject="memory", status=status, detail=f"{used:,} of {limit:,} bytes used")


def _eviction(facts: dict[str, str]) -> Finding:
    policy = facts.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        return Finding(subject="eviction", status="ok", detail="noeviction")
    evicted = facts.get("evicted_keys", "0")
    detail = f"{policy} throws features away when memory is full ({evicted} keys so far)"
    return Finding(subject="eviction", status="warning", detail=f"{detail}; set noeviction")


def _persistence(facts: dict[str, str]) -> Finding:
    appends = facts.get("aof_enabled") == "1"
    failed = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status")
        if facts.get(name, "ok") != "ok"
    ]
    if failed:
        detail = f"the server cannot save its data: {', '.join(failed)}"
        return Finding(subject="persistence", status="error", detail=detail)
    if appends:
        return Finding(subject="persistence", status="ok", detail="append-only file")
    saved = int(facts.get("rdb_last_save_time", 0)) > int(facts.get("uptime_in_seconds", 0))
    detail = "no append-only file: a restart loses what was written since the last snapshot"
    status = "ok" if saved and facts.get("rdb_saves", "0") != "0" else "warning"
    return Finding(subject="persistence", status=status, detail=detail)


def _role(facts: dict[str, str]) -> Finding:
    role = facts.get("role", "unknown")
    status = "ok" if role == "master" else "error"
    detail = "primary" if role == "master" else f"{role}: takes no writes"
    return Finding(subject="role", status=status, detail=detail)


def _clock(ahead_s: float) -> Finding:
    status = "ok" if abs(ahead_s) <= MAX_CLOCK_DIFFERENCE_S else "warning"
    side = "ahead of" if ahead_s > 0 else "behind"
    detail = f"{abs(ahead_s):.1f} s {side} this machine's"
    return Finding(subject="clock", status=status, detail=detail)
