"""The bus in memory, for unit tests of what stands on one."""

from .bus import MemoryBus
from .server import MemoryServer

__all__ = ["MemoryBus", "MemoryServer"]
