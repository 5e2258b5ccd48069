"""Dead letters whose messages were too large to be in them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dspex_bus import Bus, MemoryBus, MemoryServer, subjects
from dspex_bus.claim import Claims, claim_of
from dspex_bus.streams import OBJECTS, buckets, streams
from dspex_bus.wire import DeadListRequest, DeadRequest
from dspex_router.shell.dead import DeadLetters

pytestmark = pytest.mark.anyio

TASK = subjects.task("native", "normal", "s1", "0", 1)
BODY = b"x" * 600_000


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with MemoryBus(MemoryServer()) as opened:
        await opened.prepare(streams(), buckets())
        yield opened


@pytest.fixture
async def letters(bus: Bus) -> DeadLetters:
    """With one large letter, as a worker buries it."""
    _, headers = await Claims(bus).pack(TASK, BODY)
    told = {"Dspex-Reason": "worker_lost", "Dspex-Subject": TASK, **claim_of(headers)}
    await bus.store_and_wait(subjects.dead("native", "s1", "0", 1), b"", headers=told)
    return DeadLetters(bus, None)  # type: ignore[arg-type]  # nothing is retried here


async def test_it_is_listed_with_its_size_shown_whole_and_dropped_with_its_object(
    bus: Bus, letters: DeadLetters
) -> None:
    (listed,) = (await letters.list(DeadListRequest())).letters
    assert (listed.size, listed.data, listed.subject) == (len(BODY), None, TASK)
    request = DeadRequest(sequence=listed.sequence)
    assert (await letters.show(request)).data == BODY.decode()
    assert (await letters.drop(request)).data == BODY.decode()
    assert await bus.objects(OBJECTS).contents() == []
    assert (await letters.list(DeadListRequest())).letters == ()


async def test_it_is_shown_without_a_body_that_is_gone(bus: Bus, letters: DeadLetters) -> None:
    (info,) = await bus.objects(OBJECTS).contents()
    await bus.objects(OBJECTS).delete(info.name)
    (listed,) = (await letters.list(DeadListRequest())).letters
    assert not (await letters.show(DeadRequest(sequence=listed.sequence))).data
    await letters.drop(DeadRequest(sequence=listed.sequence))
    assert (await letters.list(DeadListRequest())).letters == ()
