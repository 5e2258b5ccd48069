"""Embeddings over the same client as models' replies: its connections, limits, breaker, retries and errors."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from . import openai
from .client import LMClient
from .endpoint import Endpoints
from .errors import LMBadReply, LMBadRequest
from .settings import Configured
from .types import LMConfig, LMReply, LMRequest, Usage
from .wire import Assembly, WireCall, bad_reply

PROVIDER = "openai/"
"""How an embedding model's name begins: the one protocol for embeddings that many servers speak."""


class EmbeddingRequest(LMRequest, frozen=True, kw_only=True, omit_defaults=True):
    texts: list[str]


class EmbeddingReply(LMReply, frozen=True, kw_only=True, omit_defaults=True):
    """``vectors`` are in the order of the request's texts."""

    vectors: list[list[float]]


class _Datum(msgspec.Struct):
    index: int
    embedding: list[float]


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Embedded(msgspec.Struct):
    data: list[_Datum]
    model: str = ""
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Embedded)


class _Embeddings:
    """The protocol as pure functions."""

    KEY_VARIABLE = openai.KEY_VARIABLE
    DEFAULT_BASE_URL = openai.DEFAULT_BASE_URL

    def encode(self, config: LMConfig, request: LMRequest, key: str | None, *, stream: bool = False) -> WireCall:
        assert isinstance(request, EmbeddingRequest)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        body = {"model": config.model_name, "input": request.texts, "encoding_format": "float"}
        return WireCall("/embeddings", headers, msgspec.json.encode(body))

    def decode(self, body: bytes) -> EmbeddingReply:
        try:
            found = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise bad_reply(str(error), body) from error
        tokens = (found.usage.prompt_tokens if found.usage else None) or 0
        vectors = [datum.embedding for datum in sorted(found.data, key=lambda datum: datum.index)]
        return EmbeddingReply(text="", model=found.model, vectors=vectors, usage=Usage(input_tokens=tokens))

    def assembly(self, config: LMConfig) -> Assembly:
        raise LMBadRequest("embeddings are not streamed")


class EmbeddingClients:
    """A client for each embedding model a step names, with the worker's own addresses, keys and limits."""

    def __init__(self, configured: Configured | None = None) -> None:
        self._configured = configured or Configured()
        self._endpoints = Endpoints()
        self._clients: dict[str, LMClient] = {}

    async def embed(self, model: str, texts: Sequence[str], *, timeout_s: float) -> EmbeddingReply:
        """A vector for each text. Raises LMError."""
        client = await self._client(model)
        reply = await client.complete(EmbeddingRequest(messages=[], texts=list(texts)), timeout_s=timeout_s)
        assert isinstance(reply, EmbeddingReply)
        if len({len(vector) for vector in reply.vectors}) > 1 or len(reply.vectors) != len(texts):
            raise LMBadReply(f"{model} answered {len(texts)} texts with {len(reply.vectors)} vectors, or uneven ones")
        return reply

    def config(self, model: str) -> LMConfig:
        """How a model is configured. Raises LMBadRequest for one that cannot be."""
        if not model.startswith(PROVIDER):
            raise LMBadRequest(f"the embedding model {model!r} must be written openai/NAME, whichever server has it")
        config = self._configured.get(model)
        assert config is not None, "a model named has a configuration"
        return config

    async def close(self) -> None:
        for client in self._clients.values():
            await client.__aexit__(None, None, None)
        self._clients.clear()

    async def _client(self, model: str) -> LMClient:
        if model not in self._clients:
            client = LMClient(
                self.config(model), env=self._configured.env, endpoints=self._endpoints, wire=_Embeddings()
            )
            self._clients[model] = await client.__aenter__()
        return self._clients[model]
