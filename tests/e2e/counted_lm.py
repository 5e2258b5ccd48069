"""The offline LM, counting what it is asked: each call is paid for."""

from __future__ import annotations

import asyncio
from collections import Counter

from aiohttp import web

from dspex_services.offline_lm import MODEL, OfflineLM


class CountedLM(OfflineLM):
    """``paid`` counts the questions that were answered, by their whole text. It takes its time."""

    def __init__(self, *, takes_s: float) -> None:
        super().__init__()
        self.paid: Counter[bytes] = Counter()
        self.takes_s = takes_s

    @property
    def environment(self) -> dict[str, str]:
        return {"DSPEX_MODEL": f"openai/{MODEL}", "DSPEX_BASE_URL": self.base_url}

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.read()
        await asyncio.sleep(self.takes_s)
        self.paid[asked] += 1
        return await super()._chat(request)
