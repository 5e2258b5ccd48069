"""Embeddings from the pool's own model server, in the protocol that OpenAI's clients speak."""

from __future__ import annotations

import os

import aiohttp

from ..errors import StepError
from ..lm import LMConfig

_TIMEOUT_S = 60.0


class Embeddings:
    def __init__(self, config: LMConfig | None) -> None:
        self._config = config
        self._http: aiohttp.ClientSession | None = None

    async def embed(self, model: str, texts: list[str]) -> list[list[float]]:
        """A vector for each text. Raises StepError."""
        if self._config is None or self._config.provider != "openai":
            raise StepError("this worker has no server for embeddings", code="lm_not_configured")
        base = self._config.base_url or "https://api.openai.com/v1"
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))
        body = {"model": model.removeprefix("openai/"), "input": texts}
        headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY') or 'none'}"}
        try:
            async with self._http.post(f"{base.rstrip('/')}/embeddings", json=body, headers=headers) as answer:
                if answer.status != 200:
                    raise StepError(
                        f"the embedding server answered {answer.status}",
                        code="lm_failed",
                        retryable=answer.status in (408, 429) or answer.status >= 500,
                    )
                document = await answer.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StepError(
                f"the embedding server did not answer: {error}", code="lm_unavailable", retryable=True
            ) from error
        return [entry["embedding"] for entry in sorted(document["data"], key=lambda entry: int(entry["index"]))]

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None
