"""The vocabulary of a model call: configuration, request and reply. Safe to travel: no keys in any of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from .errors import LMBadRequest

DEFAULT_OPENAI_MODEL = "openai/gpt-4o-mini"
DEFAULT_ANTHROPIC_MODEL = "anthropic/claude-haiku-4-5"
PROVIDERS = ("openai", "anthropic")

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
_PER_MILLION = 1e-6


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a million tokens cost, in the operator's currency. Tokens read from or written to the provider's prompt
    cache cost as much as any other input where nothing is said of them."""

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None

    def of(self, usage: Usage) -> float:
        cached, written = usage.cached_tokens, usage.cache_write_tokens
        plain = usage.input_tokens - cached - written
        read_at = self.input if self.cached_input is None else self.cached_input
        write_at = self.input if self.cache_write is None else self.cache_write
        total = plain * self.input + cached * read_at + written * write_at + usage.output_tokens * self.output
        return total * _PER_MILLION


class SharedLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of all workers of all pools and hosts together. Models with the same ``name`` share them; without one they
    are the model's own, at its address."""

    name: str = ""
    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None

    def __post_init__(self) -> None:
        limits = {name: getattr(self, name) for name in self.__struct_fields__ if name != "name"}
        if all(limit is None for limit in limits.values()):
            raise LMBadRequest(f"shared limits nothing: give one of {', '.join(limits)}")
        for name, limit in limits.items():
            if limit is not None and limit <= 0:
                raise LMBadRequest(f"shared {name} must be above 0")


class LMConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model, where, how patiently, and how much of it.

    ``model`` is ``provider/name``, the provider ``openai`` (any server that speaks its chat protocol) or ``anthropic``.
    ``base_url`` is the provider's own address when None, ``key_variable`` the environment's variable with its key the
    provider's usual one. ``timeout_s`` bounds a whole call, retries and waiting for a turn included. The limits
    are one process's, but for those in ``shared``; None sets none. Replies are kept for ``cache_s`` seconds unless a
    call says otherwise; None keeps none. ``structured_output`` says whether a schema is sent as a parameter or asked
    for in words; None lets the provider and its address decide. ``json_replies`` says what a predictor that wants JSON
    may ask of the model: that it follows a schema, that it is some object, or nothing; None goes by the model's name.
    """

    model: str = DEFAULT_OPENAI_MODEL
    base_url: str | None = None
    key_variable: str | None = None
    timeout_s: float = 60.0
    max_attempts: int = 3
    backoff_s: float = 0.5
    max_connections: int = 100
    temperature: float | None = None
    max_tokens: int | None = None
    max_concurrent: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    shared: SharedLimits | None = None
    breaker_failures: int = 8
    breaker_s: float = 5.0
    structured_output: Literal["parameter", "prompt"] | None = None
    json_replies: Literal["schema", "object", "none"] | None = None
    price: Price | None = None
    cache_s: float | None = None

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
        for name in (
            "max_tokens",
            "max_concurrent",
            "requests_per_minute",
            "tokens_per_minute",
            "breaker_failures",
            "breaker_s",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise LMBadRequest(f"{name} must be above 0")

    @property
    def provider(self) -> str:
        return self.model.partition("/")[0]

    @property
    def model_name(self) -> str:
        return self.model.partition("/")[2]

    @classmethod
    def from_environment(cls, env: Mapping[str, str], model: str | None = None) -> LMConfig | None:
        """The ``model`` asked for, else the one the environment names; None when it names none (the offline LM serves
        then).

        ``DSPEX_MODEL`` decides; else an OpenAI key or address, else an Anthropic key, picks that provider's default
        model. ``DSPEX_BASE_URL``, the address of that model's provider, wins over the provider's own ``…_BASE_URL``.
        """
        own = env.get("DSPEX_MODEL") or _default_model(env)
        chosen = model or own
        if chosen is None:
            return None
        provider = chosen.partition("/")[0]
        shared = own is None or own.partition("/")[0] == provider
        address = (env.get("DSPEX_BASE_URL") if shared else None) or env.get(f"{provider.upper()}_BASE_URL")
        return cls(model=chosen, base_url=address or None)


def _default_model(env: Mapping[str, str]) -> str | None:
    if env.get("OPENAI_API_KEY") or env.get("OPENAI_BASE_URL") or env.get("DSPEX_BASE_URL"):
        return DEFAULT_OPENAI_MODEL
    return DEFAULT_ANTHROPIC_MODEL if env.get("ANTHROPIC_API_KEY") else None


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model may ask for; ``parameters`` is the JSON Schema of its arguments."""

    name: str
    description: str = ""
    parameters: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "object", "properties": {}})


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """``arguments`` is what the model wrote, meant to be a JSON object."""

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, Any]:
        """The arguments as an object. Raises ValueError where the model wrote none."""
        found = msgspec.json.decode(self.arguments or "{}")
        if not isinstance(found, dict):
            raise ValueError(f"the arguments of {self.name} are not an object: {self.arguments!r}")
        return found


class LMRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call. ``messages`` have the shape of OpenAI's chat: ``{"role": "system"|"user"|"assistant", "content": str}``
    in order; ``content`` may be a list of ``text``, ``image_url``, ``input_audio`` and ``file`` blocks; an assistant's
    message may carry ``tool_calls``, answered by messages of the role ``tool`` with their ``tool_call_id``.

    ``temperature`` and ``max_tokens`` win over the configuration's. ``response_schema`` asks for one JSON value that
    follows this JSON Schema; an empty schema asks for any JSON object. ``tool_choice`` is ``auto``, ``none``,
    ``required`` or the name of a tool. ``extra`` is put into the provider's body as it is.
    """

    messages: list[dict[str, Any]]
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop: list[str] = []
    response_schema: dict[str, Any] | None = None
    schema_name: str = "reply"
    strict_schema: bool | None = None
    tools: list[Tool] = []
    tool_choice: str = "auto"
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    extra: dict[str, Any] = {}


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Tokens, as the provider counted them; 0 where it did not say. ``cached_tokens`` (read from the provider's prompt
    cache) and ``cache_write_tokens`` are among the ``input_tokens``, ``reasoning_tokens`` among the
    ``output_tokens``."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total(self) -> int:
        return self.input_tokens + self.output_tokens


class LMReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``model`` is what the server says answered. ``reasoning`` is the thinking it showed. ``cost`` is None where the
    operator has set no price. ``cached``: our own cache answered, and nothing was called."""

    text: str
    model: str
    finish_reason: str = "stop"
    usage: Usage = Usage()
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str = ""
    id: str = ""
    cost: float | None = None
    cached: bool = False


class Delta(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A piece of a reply as it comes: text, reasoning, or a piece of a tool call's arguments. ``tool`` counts the
    reply's tool calls from 0; ``id`` and ``name`` come with a call's first piece."""

    text: str = ""
    reasoning: str = ""
    arguments: str = ""
    tool: int | None = None
    id: str = ""
    name: str = ""
