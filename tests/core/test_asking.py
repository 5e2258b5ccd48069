"""What a client asks again by itself, and what it does not."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import dspex
from dspex import _asking
from dspex._asking import SAFE_AGAIN
from dspex_bus import Endpoint, MemoryBus, MemoryServer, Request, ServiceSpec, subjects
from dspex_bus.errors import Conflict, Disconnected, DspexError, NoRouter, NoWorkers, StoreFailed, Unavailable
from dspex_bus.wire import PoolList, Submitted, encode, error_info

pytestmark = pytest.mark.anyio

LIST = f"{subjects.ROOT}.pools.list"
DROP = f"{subjects.ROOT}.letters.drop"
SUBMIT = subjects.submit("p")


class Router:
    """Answers with what is laid ready: errors, then what is asked for."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self.errors: list[DspexError] = []
        self.asked: list[bytes] = []

    async def serve(self, subject: str, reply: Any) -> None:
        async def handle(request: Request) -> None:
            self.asked.append(request.data)
            if not self.errors:
                await request.respond(encode(reply))
                return
            error = self.errors.pop(0)
            await request.respond_error(error.status, error.message, encode(error_info(error)))

        name = subject.rsplit(".", 1)[-1]
        endpoint = Endpoint(name=name, subject=subject, handle=handle)
        spec = ServiceSpec(name="router", version="1.0.0", description="", endpoints=[endpoint], queue="router")
        await self._bus.serve(spec)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_asking, "_PAUSE_S", (0.001, 0.01))


@pytest.mark.parametrize("error", [StoreFailed("full"), Unavailable("away"), Disconnected("lost")])
async def test_what_is_safe_to_ask_again_is(error: DspexError) -> None:
    async with MemoryBus(MemoryServer()) as bus:
        router, client = Router(bus), dspex.Client(bus)
        await router.serve(LIST, PoolList(pools=()))
        assert (await client.pools()).pools == ()
        router.errors = [error] * 3
        assert (await client.pools()).pools == ()
        assert len(router.asked) == 1 + 4


async def test_a_submit_is_asked_again_with_the_id_that_it_had() -> None:
    async with MemoryBus(MemoryServer()) as bus:
        router, client = Router(bus), dspex.Client(bus)
        await router.serve(SUBMIT, Submitted(session="s", partition=0, sequence=1, events=""))
        await client.submit("p")
        router.errors = [StoreFailed("full")]
        await client.submit("p")
        first, *again = router.asked
        assert again[0] == again[1] != first


@pytest.mark.parametrize("error", [NoWorkers("none"), Conflict("taken"), Unavailable("busy", code="overloaded")])
async def test_what_the_system_says_is_believed(error: DspexError) -> None:
    async with MemoryBus(MemoryServer()) as bus:
        router, client = Router(bus), dspex.Client(bus)
        await router.serve(LIST, PoolList(pools=()))
        await client.pools()
        router.errors = [error]
        with pytest.raises(DspexError, match=error.message) as raised:
            await client.pools()
        assert raised.value.code == error.code
        assert len(router.asked) == 2


async def test_what_would_happen_twice_is_not_asked_again() -> None:
    async with MemoryBus(MemoryServer()) as bus:
        router, client = Router(bus), dspex.Client(bus)
        await router.serve(LIST, PoolList(pools=()))
        await router.serve(DROP, PoolList(pools=()))
        await client.pools()
        router.errors = [StoreFailed("full")]
        with pytest.raises(StoreFailed):
            await client.drop_dead_letter(1)
        assert len(router.asked) == 2
    assert not {verb for verb in SAFE_AGAIN if verb.endswith(("delete", "drop"))}


async def test_who_has_never_been_there_is_not_waited_for() -> None:
    async with MemoryBus(MemoryServer()) as bus:
        with anyio.fail_after(2), pytest.raises(NoRouter):
            await dspex.Client(bus).pools()


async def test_the_last_error_is_raised_by_itself_when_the_time_is_up() -> None:
    async with MemoryBus(MemoryServer()) as bus:
        router, client = Router(bus), dspex.Client(bus)
        await router.serve(LIST, PoolList(pools=()))
        await client.pools()
        router.errors = [StoreFailed("full")] * 10_000
        with anyio.fail_after(5), pytest.raises(StoreFailed) as raised:
            await client.ask("pools", "list", None, PoolList, timeout_s=0.5)
        assert raised.value.__context__ is None
        assert len(router.asked) >= 3
