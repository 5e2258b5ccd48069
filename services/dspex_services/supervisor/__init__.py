"""The supervisor: starts, watches and restarts a machine's worker processes."""

from ..worker.spec import DSPY, NATIVE, OPTIMIZE, PoolSpec
from .supervisor import Supervisor

__all__ = ["DSPY", "NATIVE", "OPTIMIZE", "PoolSpec", "Supervisor"]
