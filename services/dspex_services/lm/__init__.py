"""Calling language models over HTTP: OpenAI's and Anthropic's wire protocols behind one small client."""

from .caching import Caching, Purse, complete, ttl_of
from .client import LMClient, OnDelta, SyncLMClient, key_variable, lacks_key
from .embedding import Embedded, EmbeddingClients
from .endpoint import Endpoints
from .errors import (
    LMAuth,
    LMBadReply,
    LMBadRequest,
    LMCircuitOpen,
    LMContextTooLong,
    LMError,
    LMQuota,
    LMRateLimited,
    LMTimeout,
    LMUnavailable,
)
from .replies import json_replies
from .settings import Configured, ModelTable
from .types import Delta, LMConfig, LMReply, LMRequest, Price, Tool, ToolCall, Usage

__all__ = [
    "Caching",
    "Configured",
    "Delta",
    "Embedded",
    "EmbeddingClients",
    "Endpoints",
    "LMAuth",
    "LMBadReply",
    "LMBadRequest",
    "LMCircuitOpen",
    "LMClient",
    "LMConfig",
    "LMContextTooLong",
    "LMError",
    "LMQuota",
    "LMRateLimited",
    "LMReply",
    "LMRequest",
    "LMTimeout",
    "LMUnavailable",
    "ModelTable",
    "OnDelta",
    "Price",
    "Purse",
    "SyncLMClient",
    "Tool",
    "ToolCall",
    "Usage",
    "complete",
    "json_replies",
    "key_variable",
    "lacks_key",
    "ttl_of",
]
