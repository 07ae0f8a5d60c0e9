"""On-demand views with the modules of their functions as they are now."""

from featurestore.definitions import OnDemandFeatureView
from featurestore.functions.modules import FunctionLoader


def pinned(view: OnDemandFeatureView, functions: FunctionLoader) -> OnDemandFeatureView:
    """Return a view with the hash of its function's module, which the registry keeps.

    Raises:
        FunctionLoadError: It is not below a configured root, or fails to load.
    """
    if view.reference is None:
        return view
    return view.with_module(functions.pin(view.reference.path).sha256)
