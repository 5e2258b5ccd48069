"""A cache in two levels: each process's memory, and a key-value bucket that every worker and host shares.

Equal concurrent misses, in one process or in many, make one call. What is about to expire is renewed by one caller
while the others still get it.
"""

from .cache import Cache, Found, Made
from .keys import KINDS, key
from .memory import Memory

__all__ = ["KINDS", "Cache", "Found", "Made", "Memory", "key"]
