"""How far a model can be held to JSON, as far as its name tells: the same as DSPy takes it for."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

from .types import LMConfig

JSONReplies = Literal["schema", "object", "none"]

# The first that fits counts. A model that no line names is asked in words alone: many servers refuse what they do not
# know.
_KNOWN: tuple[tuple[str, JSONReplies], ...] = (
    (r"openai/(ft:)?gpt-4o(-mini)?-audio|openai/gpt-audio|openai/gpt-4o-2024-05-13|openai/gpt-5\.[45]-pro", "object"),
    (r"openai/gpt-5\.5-cyber|openai/o[34].*-deep-research|openai/gpt-3\.5-turbo-16k|openai/ft:gpt-3\.5", "none"),
    (r"openai/(ft:)?gpt-(4o|4\.1|[5-9])|openai/(ft:)?o[134](-|$)|openai/chat-latest$", "schema"),
    (r"openai/(ft:)?gpt-(4|3\.5-turbo)", "object"),
    (r"anthropic/claude-(haiku|opus|sonnet)-(4-[5-9]|[5-9]\b)|anthropic/claude-(fable|mythos)-", "schema"),
)


def json_replies(config: LMConfig) -> JSONReplies:
    """What the operator says of the model, else what its name does."""
    return config.json_replies or _by_name(config.model)


@lru_cache(maxsize=256)
def _by_name(model: str) -> JSONReplies:
    return next((found for pattern, found in _KNOWN if re.match(pattern, model)), "none")
