"""What runs steps: handlers, the worker that serves them, and the supervisor of pools.

What users of dspex import of it comes through ``dspex``; heavy parts (DSPy, search, the LM client) are imported by the
workers that need them.
"""

from typing import TYPE_CHECKING

from dspex_bus.lazily import lazily

if TYPE_CHECKING:
    from .errors import StepError
    from .handlers import Handlers, Step
else:
    __getattr__, __dir__ = lazily(__name__, {".errors": "StepError", ".handlers": "Handlers, Step"})

__all__ = ["Handlers", "Step", "StepError"]
