"""What is registered in a project, by name: the reading half of `FeatureStore`."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from featurestore.definitions import (
    Entity,
    FeatureService,
    FeatureView,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
)
from featurestore.registry.state import RegistryState

if TYPE_CHECKING:
    from featurestore.registry.generations import LiveState
    from featurestore.registry.log import LogEntry
    from featurestore.registry.sql import SqlRegistry


class RegisteredObjects(ABC):
    """Getters and listers over the registry of a project."""

    @property
    @abstractmethod
    def project(self) -> str:
        """The project's name."""

    @property
    @abstractmethod
    def registry(self) -> "SqlRegistry":
        """The registry that the configuration names."""

    def state(self) -> RegistryState:
        """Return all that is registered in this project, at one revision."""
        return self.registry.snapshot(self.project)

    def live_state(self) -> "LiveState":
        """Return the same with the generations of views that lookups read and runs write."""
        return self.registry.live(self.project)

    def get_entity(self, name: str) -> Entity:
        """Return a registered entity; NotFoundError suggests names that look alike."""
        return self.state().entity(name)

    def get_source(self, name: str) -> FileSource:
        """Return a registered source; NotFoundError suggests names that look alike."""
        return self.state().source(name)

    def get_feature_view(self, name: str) -> FeatureView:
        """Return a registered view; NotFoundError suggests names that look alike."""
        return self.state().view(name).definition

    def get_request_source(self, name: str) -> RequestSource:
        """Return a registered request source; NotFoundError suggests names that look alike."""
        return self.state().request_source(name)

    def get_on_demand_feature_view(self, name: str) -> OnDemandFeatureView:
        """Return a registered on-demand view; NotFoundError suggests names that look alike."""
        return self.state().on_demand_view(name)

    def get_feature_service(self, name: str) -> FeatureService:
        """Return a registered service; NotFoundError suggests names that look alike."""
        return self.state().service(name)

    def list_entities(self) -> list[Entity]:
        """Return all entities in order of their names."""
        return list(self.state().entities.values())

    def list_sources(self) -> list[FileSource]:
        """Return all sources in order of their names."""
        return list(self.state().sources.values())

    def list_feature_views(self) -> list[FeatureView]:
        """Return all views in order of their names."""
        return [view.definition for view in self.state().views.values()]

    def list_request_sources(self) -> list[RequestSource]:
        """Return all request sources in order of their names."""
        return list(self.state().request_sources.values())

    def list_on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Return all on-demand views in order of their names."""
        return list(self.state().on_demand_views.values())

    def list_feature_services(self) -> list[FeatureService]:
        """Return all services in order of their names."""
        return list(self.state().services.values())

    def history(self, *, limit: int = 100, view: str | None = None) -> "list[LogEntry]":
        """Return who applied what and when, newest first; of one view, or of all objects."""
        return self.registry.history(self.project, limit=limit, view=view)
