"""The bus on NATS."""

from .bus import NatsBus, connect

__all__ = ["NatsBus", "connect"]
