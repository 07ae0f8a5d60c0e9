"""What is registered (state), what would change (plan), what happened (log, runs).

The registry itself is `featurestore.registry.sql.SqlRegistry`. It is not imported here, because it
loads SQLAlchemy.
"""

from featurestore.registry.diff import make_plan, plan_deletion
from featurestore.registry.log import LogEntry
from featurestore.registry.plan import Change, FieldChange, Plan
from featurestore.registry.render import render_plan
from featurestore.registry.runs import Lease, ReadFile, RunRecord, Watermark
from featurestore.registry.state import ObjectRef, RegisteredView, RegistryState
from featurestore.registry.tasks import Chunk, TaskRecord

__all__ = [
    "Change",
    "Chunk",
    "FieldChange",
    "Lease",
    "LogEntry",
    "ObjectRef",
    "Plan",
    "ReadFile",
    "RegisteredView",
    "RegistryState",
    "RunRecord",
    "TaskRecord",
    "Watermark",
    "make_plan",
    "plan_deletion",
    "render_plan",
]
