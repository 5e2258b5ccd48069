"""A language model that is none: rules that extract answers from the prompt, behind the real wire protocols.

For demos, tests and optimizer runs on machines without a model. Deterministic; it knows nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .answer import MODEL, answer
from .embedding import embed

if TYPE_CHECKING:
    from .server import OfflineLM, main

__all__ = ["MODEL", "OfflineLM", "answer", "embed", "main"]


def __getattr__(name: str) -> Any:
    # Workers need the embedding alone, and a web server takes long to import.
    if name in ("OfflineLM", "main"):
        from . import server

        return getattr(server, name)
    raise AttributeError(name)
