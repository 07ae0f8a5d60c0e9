"""Commands that go where their slot is, and follow it when it moves or its node fails."""

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from redis import exceptions

from featurestore.errors import StoreUnavailableError
from featurestore.online.redis_errors import is_passing, store_error
from featurestore.online.redis_lanes import Lane, Piece, exchange
from featurestore.online.redis_nodes import Nodes
from featurestore.online.redis_patience import pauses
from featurestore.online.redis_slots import Place, SlotMap

COMMANDS_PER_PIECE: Final = 128
MAX_REDIRECTIONS: Final = 8
"""So often commands follow a slot without a pause."""
_ASKING: Final = b"*1\r\n$6\r\nASKING\r\n"


class Keyed(NamedTuple):
    """A command with one reply.

    Attributes:
        slot: Of its keys.
        packed: The command.
        several: Whether it has several keys: while their slot moves, they may be on two nodes.
    """

    slot: int
    packed: bytes
    several: bool = False


class Moving(NamedTuple):
    """In place of the reply to a command with several keys, which was not run: its slot moves."""

    slot: int


class _Errand:
    """Commands, and what is known of them so far.

    Attributes:
        replies: One per command, as far as they came.
        open: Positions of the commands that have no reply yet.
        asked: Where a command goes this once, by position.
        moved_to: A node that is said to have a slot which we sought elsewhere, or None.
        failure: An error that another attempt may not meet, and what to call its server; or None.
        failed: The nodes with such errors.
    """

    def __init__(self, commands: Sequence[Keyed]) -> None:
        self.commands = commands
        self.replies: list[Any] = [None] * len(commands)
        self.open: Sequence[int] = range(len(commands))
        self.asked: dict[int, Place] = {}
        self.moved_to: Place | None = None
        self.failure: tuple[Exception, str] | None = None
        self.failed: set[Place] = set()

    def by_place(self, slots: SlotMap) -> dict[Place, list[int]]:
        """Return which commands go where; those whose slot nobody has are a failure."""
        self.moved_to = self.failure = None
        self.failed = set()
        found: dict[Place, list[int]] = defaultdict(list)
        for position in self.open:
            place = self.asked.get(position) or slots.owners[self.commands[position].slot]
            if place is None:
                error = exceptions.ClusterDownError("", status_code="CLUSTERDOWN")
                self.failure = error, "Redis"
            else:
                found[place].append(position)
        return found

    def owners(self, slots: SlotMap) -> list[Place | None]:
        """Return where the open commands would go."""
        return [slots.owners[self.commands[position].slot] for position in self.open]


class Routes:
    """Sends commands to the nodes that have their slots.

    Args:
        nodes: The nodes.
        timeout_ms: How long a node has for each reply; for messages.
        script: What every node has to load before it is written to: a packed command.
        wait: How many replicas have to have what was written, and the longest wait for them in
            milliseconds.
    """

    def __init__(
        self, nodes: Nodes, *, timeout_ms: int, script: bytes, wait: tuple[int, int]
    ) -> None:
        self._nodes = nodes
        self._timeout_ms = timeout_ms
        self._script = script
        self._wait = wait
        self._loaded: set[Place] = set()

    def read(self, commands: Sequence[Keyed], *, until: float) -> list[Any]:
        """Return the replies to commands that change nothing.

        They are tried again where a slot moved or has another node, and not while it has none.

        Raises:
            StoreUnavailableError: A node does not answer, or it was `until` by the monotonic clock.
        """
        errand = _Errand(commands)
        slots = self._nodes.slots(until=until)
        for _ in range(MAX_REDIRECTIONS):
            self._attempt(errand, slots, until=until)
            if not errand.open:
                return errand.replies
            before, slots = slots, self._learned(errand, slots, until)
            if errand.failure and errand.owners(slots) == errand.owners(before):
                break
        raise self._failure(errand)

    def write(self, commands: Sequence[Keyed], *, until: float) -> list[Any]:
        """Return the replies to commands that may be run again, or `Moving` in place of one.

        At most one command per slot at a time: what is tried again comes later than the rest.

        Raises:
            StoreUnavailableError: Some were not run, whatever was tried, until `until`.
        """
        errand = _Errand(commands)
        for pause in pauses():
            try:
                self._follow(errand)
                if not errand.open:
                    return errand.replies
            except StoreUnavailableError:
                if time.monotonic() + pause > until:
                    raise
            if time.monotonic() + pause > until:
                break
            time.sleep(pause)
        raise self._failure(errand)

    def offer(self, place: Place, pieces: Sequence[Piece]) -> Lane:
        """Return a lane for commands to one node, which nobody will try again."""
        return Lane(self._nodes.at(place), pieces, self._wait)

    def _follow(self, errand: _Errand) -> None:
        """Attempt to run the open commands, also where they are sent on to."""
        slots = self._nodes.slots()
        for _ in range(MAX_REDIRECTIONS):
            self._attempt(errand, slots, is_write=True)
            slots = self._learned(errand, slots)
            if errand.failure or not errand.open:
                return

    def _learned(self, errand: _Errand, slots: SlotMap, until: float | None = None) -> SlotMap:
        """Return who has which slot after an attempt."""
        if not errand.moved_to and not errand.failure:
            return slots
        first, last = errand.moved_to, errand.failed
        return self._nodes.refresh(slots, first=first, last=last, until=until)

    def _attempt(
        self,
        errand: _Errand,
        slots: SlotMap,
        *,
        until: float | None = None,
        is_write: bool = False,
    ) -> None:
        sent: list[tuple[Place, Lane, list[list[int]]]] = []
        for place, positions in errand.by_place(slots).items():
            parts = _parts(positions, errand.asked)
            pieces = [self._piece(errand, place, part, is_write=is_write) for part in parts]
            lane = Lane(self._nodes.at(place), pieces, self._wait if is_write else (0, 0))
            sent.append((place, lane, parts))
        errand.asked = {}
        exchange([lane for _, lane, _ in sent], until=until)
        settled: set[int] = set()
        for place, lane, parts in sent:
            for part, answers in zip(parts, lane.answers, strict=True):
                for position, answer in zip(part, answers, strict=True):
                    if self._settle(errand, position, answer, place):
                        settled.add(position)
        errand.open = [position for position in errand.open if position not in settled]

    def _piece(self, errand: _Errand, place: Place, part: list[int], *, is_write: bool) -> Piece:
        packed = [errand.commands[position].packed for position in part]
        skipped = 0
        if part[0] in errand.asked:
            packed, skipped = [_ASKING, *packed], 1
        if is_write and place not in self._loaded:
            packed, skipped = [self._script, *packed], skipped + 1
            self._loaded.add(place)
        return Piece(b"".join(packed), len(part), skipped)

    def _settle(self, errand: _Errand, position: int, answer: Any, place: Place) -> bool:
        """Take note of an answer, and return whether the command is done with."""
        if not isinstance(answer, Exception):
            errand.replies[position] = answer
            return True
        command = errand.commands[position]
        if command.several and _says_moving(answer):
            errand.replies[position] = Moving(command.slot)
            return True
        if isinstance(answer, exceptions.MovedError):
            errand.moved_to = _told(answer, place)
        elif isinstance(answer, exceptions.AskError):
            errand.asked[position] = _told(answer, place)
        elif isinstance(answer, exceptions.NoScriptError):
            self._loaded.discard(place)
        elif is_passing(answer):
            self._loaded.discard(place)
            errand.failure = answer, _name(place)
            errand.failed.add(place)
        else:
            raise self._error(answer, _name(place))
        return False

    def _failure(self, errand: _Errand) -> Exception:
        if errand.failure is None:
            return StoreUnavailableError(
                "The cluster sends commands from node to node.", hint="try again"
            )
        return self._error(*errand.failure)

    def _error(self, error: Exception, server: str) -> Exception:
        return store_error(error, server=server, timeout_ms=self._timeout_ms)


def _parts(positions: list[int], asked: dict[int, Place]) -> list[list[int]]:
    """Return the commands of each piece; what was sent on by ASK goes alone, after ASKING."""
    alone = [[position] for position in positions if position in asked]
    others = [position for position in positions if position not in asked] if alone else positions
    starts = range(0, len(others), COMMANDS_PER_PIECE)
    return alone + [others[start : start + COMMANDS_PER_PIECE] for start in starts]


def _says_moving(error: Exception) -> bool:
    if isinstance(error, exceptions.MovedError):
        return False
    return isinstance(error, exceptions.AskError | exceptions.TryAgainError)


def _told(error: Any, place: Place) -> Place:
    """Return where MOVED or ASK point to; without a host it is the one that was asked."""
    return (place[0] if error.host in ("", "?") else error.host, error.port)


def _name(place: Place) -> str:
    return f"Redis at {place[0]}:{place[1]}"
