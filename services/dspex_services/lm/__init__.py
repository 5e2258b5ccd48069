"""Calling language models over HTTP: OpenAI's and Anthropic's wire protocols behind one small client."""

from .client import LMClient, SyncLMClient
from .errors import LMAuth, LMBadReply, LMBadRequest, LMError, LMRateLimited, LMTimeout, LMUnavailable
from .types import LMConfig, LMReply, LMRequest, Usage

__all__ = [
    "LMAuth",
    "LMBadReply",
    "LMBadRequest",
    "LMClient",
    "LMConfig",
    "LMError",
    "LMRateLimited",
    "LMReply",
    "LMRequest",
    "LMTimeout",
    "LMUnavailable",
    "SyncLMClient",
    "Usage",
]
