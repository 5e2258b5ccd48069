"""Embeddings over the same client as models' replies: its connections, limits, breaker, retries, errors and cache.

A reply's text is its vectors, packed: so it is kept and counted as any other."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from ..cache import Cache
from . import openai
from .caching import Caching, Purse, complete, ttl_of
from .client import LMClient
from .errors import LMBadReply, LMBadRequest
from .settings import Configured
from .types import LMConfig, LMReply, LMRequest, Usage
from .wire import Assembly, WireCall, bad_reply

PROVIDER = "openai/"
"""How an embedding model's name begins: the one protocol for embeddings that many servers speak."""

Vector = tuple[float, ...]


class Embedded(NamedTuple):
    """``vectors`` are in the order of the texts; ``reply`` says what they cost."""

    vectors: list[Vector]
    reply: LMReply


class EmbeddingRequest(LMRequest, frozen=True, kw_only=True, omit_defaults=True):
    texts: list[str]
    max_tokens: int | None = 0  # nothing comes out


class _Datum(msgspec.Struct):
    index: int
    embedding: list[float]


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Datum]
    model: str = ""
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Answer)


class _Embeddings:
    """The protocol as pure functions."""

    KEY_VARIABLE = openai.KEY_VARIABLE
    DEFAULT_BASE_URL = openai.DEFAULT_BASE_URL

    def encode(self, config: LMConfig, request: LMRequest, key: str | None, *, stream: bool = False) -> WireCall:
        assert isinstance(request, EmbeddingRequest)
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        body = {"model": config.model_name, "input": request.texts, "encoding_format": "float"}
        return WireCall("/embeddings", headers, msgspec.json.encode(body))

    def decode(self, body: bytes) -> LMReply:
        try:
            found = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise bad_reply(str(error), body) from error
        vectors = [datum.embedding for datum in sorted(found.data, key=lambda datum: datum.index)]
        if len({len(vector) for vector in vectors}) != 1:
            raise bad_reply("no vectors, or uneven ones", body)
        tokens = (found.usage.prompt_tokens if found.usage else None) or 0
        return LMReply(text=_packed(vectors), model=found.model, usage=Usage(input_tokens=tokens))

    def assembly(self, config: LMConfig) -> Assembly:
        raise LMBadRequest("embeddings are not streamed")


def _packed(vectors: Sequence[Sequence[float]]) -> str:
    numbers = [number for vector in vectors for number in vector]
    return f"{len(vectors[0])}:{base64.b64encode(struct.pack(f'<{len(numbers)}f', *numbers)).decode()}"


def _unpacked(text: str) -> list[Vector]:
    length, _, packed = text.partition(":")
    return list(struct.iter_unpack(f"<{length}f", base64.b64decode(packed)))


class EmbeddingClients:
    """A client for each embedding model a step names, with the worker's own addresses, keys and limits."""

    def __init__(self, configured: Configured | None = None) -> None:
        self._configured = configured or Configured()
        self._clients: dict[str, LMClient] = {}

    async def embed(
        self,
        model: str,
        texts: Sequence[str],
        *,
        timeout_s: float,
        cache: Cache | None = None,
        purse: Purse | None = None,
    ) -> Embedded:
        """A vector for each text, from the cache where the operator's table says that the model's are kept. Raises
        LMError."""
        client = await self._client(model)
        ttl_s = ttl_of(None, client.config)
        caching = None if cache is None or ttl_s is None else Caching(cache, ttl_s)
        request = EmbeddingRequest(messages=[], texts=list(texts))
        reply = await complete(client, request, caching, timeout_s=timeout_s, purse=purse)
        vectors = _unpacked(reply.text)
        if len(vectors) != len(texts):
            raise LMBadReply(f"{model} answered {len(texts)} texts with {len(vectors)} vectors")
        return Embedded(vectors, reply)

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
            config, env = self.config(model), self._configured.env
            client = LMClient(config, env=env, endpoints=self._configured.endpoints, wire=_Embeddings())
            self._clients[model] = await client.__aenter__()
        return self._clients[model]
