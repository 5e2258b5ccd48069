"""Faults on order, for tests: a model named ``<name>+<fault>[*<times>]`` misbehaves that often, then answers.

Faults: an HTTP status (``+429*2``; ``+429@0.2`` sends ``Retry-After: 0.2``), ``slow@5`` (seconds before the answer),
``garbage`` (200 with no JSON), ``cut`` (the connection closes in mid-answer). Without ``*`` the fault never ends.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter

from aiohttp import web

_ORDER = re.compile(r"^.*\+(?P<fault>\d{3}|slow|garbage|cut)(?:@(?P<seconds>[\d.]+))?(?:\*(?P<times>\d+))?$")


class Faults:
    """Counts the calls of each faulty model name."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    async def strike(self, request: web.Request, model: str) -> web.StreamResponse | None:
        """The faulty answer that ``model`` orders for this call; None to answer as usual."""
        order = _ORDER.match(model)
        if order is None:
            return None
        self._seen[model] += 1
        if order["times"] is not None and self._seen[model] > int(order["times"]):
            return None
        seconds = order["seconds"]
        match order["fault"]:
            case "slow":
                await asyncio.sleep(float(seconds or 1))
                return None
            case "garbage":
                return web.Response(text="<html>not the API you meant</html>", content_type="text/html")
            case "cut":
                return await _cut(request)
        headers = {"Retry-After": seconds} if seconds else None
        error = {"error": {"message": f"ordered fault {order['fault']}", "type": "fault"}}
        return web.json_response(error, status=int(order["fault"]), headers=headers)


async def _cut(request: web.Request) -> web.StreamResponse:
    """Promise a long body, send its beginning, and drop the connection."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [')
    if request.transport is not None:
        request.transport.close()
    return response
