"""What makes results trustworthy: datasets, explanations, checks; a part of `FeatureStore`."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.config import RepoConfig
from featurestore.registered import RegisteredObjects
from featurestore.settings import Settings
from featurestore.time import Clock

if TYPE_CHECKING:
    from featurestore.explanation.explain import Explainable, Explainer, Online
    from featurestore.explanation.model import Explanation
    from featurestore.functions import FunctionLoader
    from featurestore.offline.engine import Mode, OfflineEngine
    from featurestore.online.store import OnlineStore
    from featurestore.serving.response import OnlineResponse
    from featurestore.training.query import Selection


class Trust(RegisteredObjects):
    """Datasets that rebuild, values that explain themselves, pipelines that prove they do not leak.

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

    # --- datasets ----------------------------------------------------------------------------

    # --- explanations ------------------------------------------------------------------------

    def explain(
        self,
        feature: "Explainable",
        entity: Mapping[str, Any] | None = None,
        *,
        at: datetime | str | None = None,
        mode: "Mode" = "complete",
        request: Mapping[str, Any] | None = None,
        online: bool = False,
        max_rows: int = 10,
    ) -> "Explanation":
        """Return why a feature has its value: the rows that answer, the rule, what was passed over.

        The value is that of `get_historical_features` for this one row. The rows behind it are
        found apart, by the rules alone; where the two differ, `Explanation.defects` says so.

        Args:
            feature: "view:feature", a service or its name, a view, a selection such as
                `view.with_name("dest")[["a"]]`, or a list of such.
            entity: Join key -> value, as the features' views or roles call them; nothing for views
                without an entity.
            at: The moment: an aware datetime (a naive one is UTC) or RFC 3339 text; now by the
                store's clock when left out.
            mode: "complete", or "as_served" for what had been written by then.
            request: The request fields of on-demand features.
            online: Set beside it what the online store has now, and say why it differs.
            max_rows: So many rows of each window are listed, the newest; all are counted.

        Returns:
            Frozen data: `str()` lays it out for a terminal of 100 columns, a notebook shows it as a
            table, `to_document()` is JSON-ready. Rows of files are counted from 0.

        Raises:
            NotFoundError: An unknown service, view or feature; it suggests names that look alike.
            EntityValueError: A join key or request field is missing, unknown or of the wrong type.
            RequestError: `at` is not an instant, `max_rows` is below 0, or `mode` is not possible.
            SourceError: A source's files cannot be read.
            StoreUnavailableError: With `online`, the online store cannot be reached (retryable).
        """
        from featurestore.explanation.explain import as_request

        asked = as_request(feature)
        explainer = self._explainer(online=online, max_rows=max_rows)
        return explainer.explain(asked, entity or {}, request or {}, at=at, mode=mode)

    def _explainer(self, *, online: bool, max_rows: int) -> "Explainer":
        from featurestore.explanation.explain import Explainer

        return Explainer(
            project=self.project,
            state=self.state(),
            engine=self.engine,
            functions=self.functions,
            clock=self.clock,
            root=self.config.root,
            source_roots=self.source_roots,
            online=self._online_half() if online else None,
            max_rows=max_rows,
        )

    def _online_half(self) -> "Online":
        from featurestore.explanation.explain import Online
        from featurestore.explanation.online import OnlineSide

        return Online(
            live=self.live_state(),
            side=lambda at_us: OnlineSide(
                project=self.project,
                store=self.online_store,
                registry=self.registry,
                engine=self.engine,
                clock=self.clock,
                root=self.config.root,
                at_us=at_us,
            ),
            look_up=self._look_up,
        )

    def _look_up(
        self, features: "Sequence[Selection]", entity: Mapping[str, Any]
    ) -> "OnlineResponse":
        """Return features of an entity, of which more may be known than these need."""
        from featurestore.serving.local import LocalLookups

        prepared = LocalLookups(self).prepare(features, full_feature_names=True)
        return prepared.get([{n: entity[n] for n in prepared.request_columns}])

    # --- leaks -------------------------------------------------------------------------------

    # --- spines ------------------------------------------------------------------------------

    # --- statistics --------------------------------------------------------------------------

    # --- contracts ---------------------------------------------------------------------------
