"""What is asked of a router that is just leaving."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspex_bus import MemoryBus, MemoryServer, Request
from dspex_bus.wire import ErrorInfo, PoolList, decode
from dspex_router.shell.config import RouterConfig
from dspex_router.shell.endpoints import Endpoints

pytestmark = pytest.mark.anyio


async def test_it_may_be_asked_of_another_at_once() -> None:
    async def answer(_request: Request, _body: Any, _content: str) -> PoolList:
        raise AssertionError

    async with MemoryBus(MemoryServer()) as bus:
        async with asyncio.TaskGroup() as group:
            endpoints = Endpoints(bus, RouterConfig(), group, "1.0.0")
            endpoints.add("list", "x.list", None, PoolList, answer)
        await bus.serve(endpoints.spec())
        told = decode(ErrorInfo, (await bus.request("x.list")).data, subject="x.list")
    assert (told.code, told.retryable) == ("unavailable", True)
