"""Live events on their way to one consumer."""

from __future__ import annotations

import pytest

from dspex._feed import Feed
from dspex_bus import Message
from dspex_bus.wire import CancelRequested, encode_event

pytestmark = pytest.mark.anyio

SUBJECT = "dspex.v1.event.3.s1.cancel"


def stored(sequence: int) -> dict[str, str]:
    return {"Nats-Sequence": str(sequence), "Nats-Time-Stamp": "2026-01-02T03:04:05.678901234Z"}


async def test_an_event_whose_body_is_elsewhere_is_read_from_the_journal() -> None:
    feed = Feed()
    feed.behind = False
    data, headers = encode_event(CancelRequested(reason="why"), SUBJECT)
    await feed.on_message(Message(SUBJECT, data, headers={**headers, **stored(1)}))
    said = await feed.next(1)
    assert said is not None
    assert (said.sequence, said.event) == (1, CancelRequested(reason="why"))

    claim = {"Dspex-Object": "s1.cancel.0123456789abcdef01234567"}
    await feed.on_message(Message(SUBJECT, b"", headers={**headers, **stored(2), **claim}))
    assert feed.behind
    assert await feed.next(1) is None
