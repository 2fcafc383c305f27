"""Running jobs in processes that can be ended: `Executor`, `Job`, `Outcome`, and the local implementation.

Nothing here imports torch; the processes that run jobs do.
"""

from llmnas.executors.base import KINDS, Executor, Handle, Job, Outcome, Stop
from llmnas.executors.local import LocalExecutor

__all__ = ["KINDS", "Executor", "Handle", "Job", "LocalExecutor", "Outcome", "Stop"]
