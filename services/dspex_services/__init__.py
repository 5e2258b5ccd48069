"""What runs steps: handlers, the worker that serves them, and the supervisor of pools.

What users of dspex import of it comes through ``dspex``; heavy parts (DSPy, search, the LM client) are imported by the
workers that need them.
"""

from .errors import StepError
from .handlers import Handlers, Step

__all__ = ["Handlers", "Step", "StepError"]
