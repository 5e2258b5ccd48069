"""The vocabulary of a model call: configuration, request and reply. Safe to travel: no keys in any of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from .errors import LMBadRequest

DEFAULT_OPENAI_MODEL = "openai/gpt-4o-mini"
DEFAULT_ANTHROPIC_MODEL = "anthropic/claude-haiku-4-5"
PROVIDERS = ("openai", "anthropic")


class LMConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Which model, where, and how patiently.

    ``model`` is ``provider/name``, the provider ``openai`` (any server that speaks its chat protocol) or ``anthropic``.
    ``base_url`` is the provider's own address when None. ``timeout_s`` bounds a whole call, retries included.
    """

    model: str = DEFAULT_OPENAI_MODEL
    base_url: str | None = None
    timeout_s: float = 60.0
    max_attempts: int = 3
    backoff_s: float = 0.5
    max_connections: int = 100
    temperature: float | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS or not self.model_name:
            raise LMBadRequest(
                f"the model {self.model!r} names no known provider: write openai/<name> (also for any "
                "OpenAI-compatible server, with base_url) or anthropic/<name>"
            )
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise LMBadRequest(f"the base URL {self.base_url!r} must start with http:// or https://")
        if self.timeout_s <= 0 or self.max_attempts < 1 or self.max_connections < 1 or self.backoff_s < 0:
            raise LMBadRequest(
                "timeout_s must be above 0, max_attempts and max_connections at least 1, backoff_s at least 0"
            )

    @property
    def provider(self) -> str:
        return self.model.partition("/")[0]

    @property
    def model_name(self) -> str:
        return self.model.partition("/")[2]

    @classmethod
    def from_environment(cls, env: Mapping[str, str]) -> LMConfig | None:
        """The model the environment asks for, or None when it names none (the offline LM serves then).

        ``DSPEX_MODEL`` decides; else an OpenAI key or address, else an Anthropic key, picks that provider's default
        model. ``DSPEX_BASE_URL`` wins over the provider's own ``…_BASE_URL``.
        """
        model = env.get("DSPEX_MODEL") or _default_model(env)
        if model is None:
            return None
        own_address = f"{model.partition('/')[0].upper()}_BASE_URL"
        return cls(model=model, base_url=env.get("DSPEX_BASE_URL") or env.get(own_address) or None)


def _default_model(env: Mapping[str, str]) -> str | None:
    if env.get("OPENAI_API_KEY") or env.get("OPENAI_BASE_URL") or env.get("DSPEX_BASE_URL"):
        return DEFAULT_OPENAI_MODEL
    return DEFAULT_ANTHROPIC_MODEL if env.get("ANTHROPIC_API_KEY") else None


class LMRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. ``messages`` are ``{"role": "system"|"user"|"assistant", "content": str}``, in order.

    ``temperature`` and ``max_tokens`` win over the configuration's. ``response_schema`` asks for one JSON value that
    follows this JSON Schema; an empty schema asks for any JSON object.
    """

    messages: list[dict[str, Any]]
    temperature: float | None = None
    max_tokens: int | None = None
    stop: list[str] = []
    response_schema: dict[str, Any] | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens, as the provider counted them; 0 where it did not say."""

    input_tokens: int = 0
    output_tokens: int = 0


class LMReply(msgspec.Struct, frozen=True, kw_only=True):
    """``model`` is what the server says answered. ``finish_reason``: stop, length, tool_calls or content_filter."""

    text: str
    model: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
