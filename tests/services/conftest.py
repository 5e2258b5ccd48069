"""A real server for each module's tests."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from dspex_bus import EmbeddedServer, NatsBus

from .rig import Rig


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(EmbeddedServer()) as running:
        yield running


@pytest.fixture
async def rig(server: EmbeddedServer) -> AsyncIterator[Rig]:
    async with NatsBus(server.url, name="rig") as bus:
        rig = Rig(server.url, bus, f"p{secrets.token_hex(4)}")
        async with rig.watching():
            yield rig
