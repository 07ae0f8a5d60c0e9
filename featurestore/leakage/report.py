"""What a leak test has to say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

FEW: Final = 3
"""At fewer spine rows it may be chance that nothing moves: a NaN stays one whatever is added."""
Kind = Literal["changed", "removed", "added", "other rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """What was done to one row that must not matter, or that must.

    Attributes:
        kind: "changed", "removed" or "added"; "other rows" if rows of other entities, or of the
            spine, were left out, which needs no change of any row.
        why: What the row is to the spine row: "after q", "of another entity".
        source: The source's name; empty for "other rows" of the spine.
        file: The file that the row is in, or was added to; empty where there is none.
        row: Its number there, counted from 0; of an added row that of its neighbour. -1 for none.
        before: The row's keys and times as they were; empty for an added row.
        after: The same as they became; empty for a removed row.
        values: Other columns that were changed.
    """

    kind: Kind
    why: str
    source: str = ""
    file: str = ""
    row: int = -1
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """A feature that moved though nothing moved that it may see.

    Attributes:
        feature: "view:feature".
        entity: The spine row's keys.
        at: Its time, RFC 3339; None for null.
        before: The value.
        after: What it became.
        mutations: What moved it: one mutation, unless it takes several at once.
    """

    feature: str
    entity: Mapping[str, Any]
    at: str | None
    before: Any
    after: Any
    mutations: tuple[Mutation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Whether the test would notice: what spine rows do see was changed.

    Attributes:
        view: The view, or its role.
        change: "value" or "joined": values of a row that is seen, or of those that are joined to
            it; "newest" or "oldest": a row was added at the last, or first, instant that counts.
        tried: At how many spine rows.
        moved: At how many of them a feature moved.
        certain: Whether it has to move: no filter or expression stands in between.
    """

    view: str
    change: str
    tried: int
    moved: int
    certain: bool

    @property
    def is_blind(self) -> bool:
        """Whether rows that count were changed, and nothing moved that had to."""
        return self.certain and self.tried >= FEW and self.moved == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageReport:
    """The outcome of a leak test.

    Attributes:
        mode: "complete" or "as_served".
        engine: The engine's name.
        seed: What the mutations were drawn with.
        points: Spine rows.
        features: What was checked, as "view:feature".
        rounds: How often sources were mutated with rows that must not matter.
        mutations: How many rows that were, by what they are to the spine rows.
        compared: Values that were compared.
        leaks: What moved, one for each feature, with what moved it.
        leaking: How many values moved.
        controls: Whether rows that matter moved anything.
        notes: What was not checked, and why.
    """

    mode: str
    engine: str
    seed: int
    points: int
    features: tuple[str, ...]
    rounds: int
    mutations: Mapping[str, int]
    compared: int
    leaks: tuple[Leak, ...]
    leaking: int
    controls: tuple[Control, ...]
    notes: tuple[str, ...]

    @property
    def visible(self) -> int:
        """How many mutations of rows that matter were made."""
        return sum(control.tried for control in self.controls)

    @property
    def moved(self) -> int:
        """How many of those moved a value."""
        return sum(control.moved for control in self.controls)

    @property
    def blind(self) -> tuple[Control, ...]:
        """Controls that had to move something and did not."""
        return tuple(control for control in self.controls if control.is_blind)

    @property
    def ok(self) -> bool:
        """Whether nothing leaks, something was compared, and the test has proved that it sees."""
        sees = self.moved > 0 or not any(control.certain for control in self.controls)
        return not self.leaks and not self.blind and self.compared > 0 and sees
