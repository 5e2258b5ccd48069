"""Several routers on one bus: partitions are shared out, taken over, and every session goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, Message, NatsBus, subjects
from dspex_bus.wire import RouterPresence, decode

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


class Routers:
    """The routers of a server by what they say of themselves."""

    def __init__(self) -> None:
        self.said: dict[str, RouterPresence] = {}
        self._came = anyio.Event()

    async def on_presence(self, message: Message) -> None:
        said = decode(RouterPresence, message.data, subject=message.subject)
        self.said[said.router] = said
        self._came.set()
        self._came = anyio.Event()

    def sizes(self) -> list[int]:
        return sorted(len(said.partitions) for said in self.said.values() if said.state == "ready")

    def owns_all(self, process: subprocess.Popen[str]) -> bool:
        return any(said.pid == process.pid and len(said.partitions) == 16 for said in self.said.values())

    async def until(self, holds: Callable[[], bool]) -> None:
        with anyio.fail_after(15):
            while not holds():
                await self._came.wait()


@pytest.fixture
async def routers(server: EmbeddedServer) -> AsyncIterator[Routers]:
    async with NatsBus(server.url, name="watcher") as bus:
        found = Routers()
        await bus.subscribe(subjects.ROUTERS, found.on_presence)
        yield found


@contextmanager
def router(server: EmbeddedServer, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A router process, ready."""
    command = [sys.executable, "-m", "dspex", "router", "--server", server.url, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert "ready" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


@contextmanager
def native_pool(server: EmbeddedServer) -> Iterator[None]:
    command = [sys.executable, "-m", "dspex", "pool", "native", "--server", server.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert "ready" in process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


WAITING = dspex.pipeline([dspex.wait("go"), dspex.native("template", template="{{ said }}")])


async def _results(sessions: list[dspex.Session]) -> list[str]:
    found = [await session.result(timeout_s=20) for session in sessions]
    return [json.dumps(result.output) for result in found]


async def test_partitions_are_shared_out_and_sessions_outlive_their_owners(
    server: EmbeddedServer, routers: Routers
) -> None:
    async with AsyncExitStack() as stack:
        first = stack.enter_context(router(server))
        stack.enter_context(native_pool(server))
        client = await stack.enter_async_context(dspex.connect(server.url))
        sessions = [await client.submit(WAITING) for _ in range(12)]
        await routers.until(lambda: routers.sizes() == [16])

        second = stack.enter_context(router(server))
        await routers.until(lambda: routers.sizes() == [8, 8])
        sessions += [await client.submit(WAITING) for _ in range(12)]

        first.kill()  # it says no goodbye
        alive = str(second.pid)
        await routers.until(
            lambda: any(alive in id and len(said.partitions) == 16 for id, said in routers.said.items())
        )
        for session in sessions:
            assert await session.signal("go", {"said": session.id})
        assert await _results(sessions) == [json.dumps({"text": session.id}) for session in sessions]


@pytest.mark.slow
async def test_an_orderly_stop_hands_over_at_once(server: EmbeddedServer, routers: Routers) -> None:
    with router(server) as first, router(server) as second, native_pool(server):
        await routers.until(lambda: routers.sizes() == [8, 8])
        async with dspex.connect(server.url) as client:
            sessions = [await client.submit(WAITING) for _ in range(8)]
            first.send_signal(signal.SIGTERM)
            await routers.until(
                lambda: any(str(second.pid) in id and len(said.partitions) == 16 for id, said in routers.said.items())
            )
            for session in sessions:
                await session.signal("go", {"said": "on"})
            assert set(await _results(sessions)) == {'{"text": "on"}'}


@pytest.mark.slow
async def test_a_router_that_was_stopped_and_comes_back_does_no_harm(server: EmbeddedServer, routers: Routers) -> None:
    """For a moment it believes to own what others have taken over."""
    with router(server) as first, router(server) as second, native_pool(server):
        await routers.until(lambda: routers.sizes() == [8, 8])
        os.kill(first.pid, signal.SIGSTOP)
        await routers.until(lambda: routers.owns_all(second))
        async with dspex.connect(server.url) as client:
            sessions = [await _submitted(client) for _ in range(8)]
            os.kill(first.pid, signal.SIGCONT)
            for session in sessions:
                await session.signal("go", {"said": "on"})
            assert set(await _results(sessions)) == {'{"text": "on"}'}
            await routers.until(lambda: routers.sizes() == [8, 8])
            for session in sessions:
                ends = [
                    event
                    for event in [e async for e in session.events()]
                    if type(event.event).__name__ == "SessionEnded"
                ]
                assert len(ends) == 1


async def _submitted(client: dspex.Client) -> dspex.Session:
    """A request may go to the router that is stopped, which answers no one: another try goes to the other."""
    id = os.urandom(8).hex()
    with anyio.fail_after(30):
        while True:
            with anyio.move_on_after(1):
                return await client.submit(WAITING, session=id)
