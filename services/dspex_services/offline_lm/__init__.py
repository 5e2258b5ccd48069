"""A language model that is none: rules that extract answers from the prompt, behind the real wire protocols.

For demos, tests and optimizer runs on machines without a model. Deterministic; it knows nothing by itself.
"""

from .answer import MODEL, answer
from .embedding import embed
from .server import OfflineLM, main

__all__ = ["MODEL", "OfflineLM", "answer", "embed", "main"]
