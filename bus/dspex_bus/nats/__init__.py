"""The bus on NATS."""

from ._websockets import import_nats

import_nats()

from .bus import NatsBus, connect  # noqa: E402

__all__ = ["NatsBus", "connect"]
