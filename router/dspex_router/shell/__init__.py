"""The router's shell: reads the journal, asks the core, publishes what follows, and answers clients."""

from .config import RouterConfig
from .router import Router

__all__ = ["Router", "RouterConfig"]
