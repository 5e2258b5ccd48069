"""DSPy's optimizers as steps: they run here, and what they try runs in the pool of workers."""

from .pool import optimizing

__all__ = ["optimizing"]
