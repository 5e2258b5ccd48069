"""What was stored is there for everybody at once, whichever replica is asked."""

from __future__ import annotations

from pathlib import Path

import anyio
import msgspec
import pytest

from dspex_bus import Message
from dspex_bus.nats import NatsBus
from dspex_bus.streams import BucketSpec, StreamSpec

from .cluster import cluster

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(150)]

STREAM = StreamSpec(name="KEPT", subjects=("kept.>",), replicas=3)
BUCKET = BucketSpec(name="KEPT", replicas=3, largest=1024)
STALE = 5
"""So often has a replica itself said that there is nothing, before we are content."""


async def test_who_reads_finds_what_another_has_stored(tmp_path: Path) -> None:
    async with cluster(tmp_path) as servers:
        first, second, third = servers.nodes
        async with NatsBus(first.url) as a, NatsBus(second.url) as b, NatsBus(third.url) as c:
            await a.prepare([STREAM], [BUCKET])
            number = stale = 0
            with anyio.fail_after(90):
                while stale < STALE:
                    writer, reader = [(a, b), (b, c), (c, a)][number % 3]
                    subject = f"kept.{number}"
                    await writer.store_and_wait(subject, b"x", once=True, timeout_s=10)
                    raw = await reader.request(f"$JS.API.DIRECT.GET.KEPT.{subject}")
                    stale += _is_nothing(raw)
                    assert await reader.last("KEPT", subject) is not None
                    assert [message.subject async for message in reader.history("KEPT", subject)] == [subject]
                    assert [message.subject async for message in reader.slots("KEPT", subject)] == [subject]
                    await writer.objects("KEPT").put(subject, msgspec.json.encode(number))
                    assert await reader.objects("KEPT").get(subject) == msgspec.json.encode(number)
                    number += 1


def _is_nothing(message: Message) -> bool:
    return message.headers is not None and "Nats-Sequence" not in message.headers
