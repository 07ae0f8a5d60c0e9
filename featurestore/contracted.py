"""Sources and views that keep their contracts: a part of `FeatureStore`."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.config import RepoConfig
from featurestore.definitions import FeatureView, FileSource
from featurestore.errors import RequestError
from featurestore.registered import RegisteredObjects
from featurestore.settings import CHECKS, Check, Settings
from featurestore.time import Clock

if TYPE_CHECKING:
    from featurestore.contracts.gate import Cause, Gate
    from featurestore.contracts.report import ValidationReport
    from featurestore.definitions.contract import Policy
    from featurestore.functions import FunctionLoader
    from featurestore.offline.engine import OfflineEngine
    from featurestore.online.store import OnlineStore
    from featurestore.registry.validations import ValidationRecord


class Contracted(RegisteredObjects):
    """Checks of contracts, and what they need.

    Attributes:
        config: Settings, and where relative paths start.
        clock: Says what is now.
        source_roots: Folders below which sources have to lie; None allows every place.
    """

    source_roots: tuple[Path, ...] | None = None
    config: RepoConfig
    clock: Clock

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """The settings in force."""

    @property
    @abstractmethod
    def engine(self) -> "OfflineEngine":
        """The engine that the configuration names."""

    @property
    @abstractmethod
    def functions(self) -> "FunctionLoader":
        """What loads Python functions."""

    @property
    @abstractmethod
    def online_store(self) -> "OnlineStore":
        """The online store that the configuration names."""

    def _check_roots(self, *owners: FeatureView | FileSource) -> None:
        """Refuse what is made of sources that lie where this process reads nothing."""
        from featurestore.offline.source_roots import check_sources_within

        parts = ((o,) if isinstance(o, FileSource) else (o.source, *o.joins) for o in owners)
        sources = (source for found in parts for source in found)
        check_sources_within(self.source_roots, sources, root=self.config.root)

    def validate(
        self,
        names: Sequence[str] | None = None,
        *,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        policy: "Policy | None" = None,
        quarantine_dir: str | Path | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "ValidationReport":
        """Check the contracts of sources and views against their rows; the registry keeps results.

        Args:
            names: Names of sources and views; None for all that have a contract.
            start: Rules about rows look at those with `event_ts > start`; None for all.
            end: All rules look at rows with `event_ts <= end`; None for all. A row without an event
                time belongs to every interval.
            policy: What every broken rule does instead of its own policy: "warn", "quarantine" or
                "fail". A rule about all rows together cannot quarantine, and keeps its own.
            quarantine_dir: Folder that rows which break a rule with the policy "quarantine" are
                written to, relative to the repository; None for the one of the settings.
            progress: Called with (source or view, rows done, rows in all).

        Returns:
            What became of every rule, with examples; `ok` is false if one failed.

        Raises:
            NotFoundError: There is no such source or view.
            RequestError: A name means a source and a view, or what has no contract; or the start is
                not before the end.
            SourceOutsideRootsError: A source's files lie where this process reads nothing.
            SourceError: A source's files cannot be read.
            OutputError: Bad rows cannot be written.
        """
        from featurestore.contracts.gate import owners_named
        from featurestore.contracts.interval import interval

        rows = interval(start, end)
        owners = owners_named(self.state(), names)
        self._check_roots(*owners)
        folder = None if quarantine_dir is None else Path(quarantine_dir)
        gate = self.contract_gate("validate", policy, quarantine=folder, progress=progress)
        return gate.check(owners, rows)

    def validations(self, name: str | None = None, *, limit: int = 100) -> "list[ValidationRecord]":
        """Return what the newest checks of contracts found, newest first.

        Args:
            name: Of a source or view, or as `source/x` and `view/x`; None for all.
            limit: At most so many; of each object the newest 100 are kept.
        """
        from featurestore.contracts.gate import KINDS

        kind, _, rest = (name or "").rpartition("/")
        return self.registry.validations(self.project, KINDS.get(kind), rest or None, limit=limit)

    def contract_gate(
        self,
        cause: "Cause",
        policy: "Policy | None" = None,
        *,
        quarantine: Path | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> "Gate":
        """Return what checks contracts for a purpose: `gate.let_through(views)` on the way.

        Args:
            cause: What the registry keeps as the reason.
            policy: What every broken rule does instead of its own policy; None for that.
            quarantine: Folder for bad rows; None for the one of the settings.
            progress: Told of every batch, or None.
        """
        from featurestore.contracts.gate import Gate
        from featurestore.contracts.validator import Validator
        from featurestore.offline.factory import duckdb_limits

        chosen = self.settings
        return Gate(
            project=self.project,
            registry=self.registry,
            cause=cause,
            validator=Validator(
                engine=self.engine,
                root=self.config.root,
                now_us=self.clock.now_micros(),
                limits=duckdb_limits(chosen.offline_store, root=self.config.root),
                quarantine=self.config.path(quarantine or chosen.validation.quarantine),
                policy=policy,
                progress=progress,
            ),
        )

    def _gate(
        self, cause: "Cause", *, wanted: bool | Check | None, configured: Check
    ) -> "Gate | None":
        """Return what checks contracts as a caller wants it, or the settings; None for nothing."""
        checks = configured if wanted is None else wanted
        if isinstance(checks, bool):
            checks = "declared" if checks else "off"
        if checks == "off":
            return None
        if checks not in CHECKS:
            raise RequestError(
                f"validate={checks!r} is none of True, False, 'off', 'declared', 'warn', 'fail'.",
                hint="rows are left out by rules whose policy is 'quarantine', not by one run",
            )
        policies: dict[str, Policy] = {"warn": "warn", "fail": "fail"}
        return self.contract_gate(cause, policies.get(checks))
