"""The offline LM in a process of its own, slow and counting: what a job pays for.

    python benchmarks/counted_lm.py SECONDS

Prints its base URL; ``GET /paid`` tells how often each question was answered. Ends when its standard input closes.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections import Counter

from aiohttp import web
from timing import run_loop

from dspex_services.offline_lm import OfflineLM


class CountedLM(OfflineLM):
    def __init__(self, takes_s: float) -> None:
        super().__init__()
        self._takes_s = takes_s
        self._paid: Counter[str] = Counter()

    def _app(self) -> web.Application:
        app = super()._app()
        app.router.add_get("/paid", self._tell)
        return app

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.read()
        await asyncio.sleep(self._takes_s)
        self._paid[hashlib.sha256(asked).hexdigest()] += 1
        return await super()._chat(request)

    async def _tell(self, request: web.Request) -> web.Response:
        told = dict(self._paid)
        if request.query.get("reset"):
            self._paid.clear()
        return web.json_response(told)


async def main(takes_s: float) -> None:
    async with CountedLM(takes_s) as lm:
        print(lm.base_url, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    run_loop(main(float(sys.argv[1])))
