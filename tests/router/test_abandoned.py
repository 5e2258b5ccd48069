"""A mistake of ours, or a journal that nobody foresaw, ends one session and no other."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dspex_bus import subjects
from dspex_bus.streams import EVENTS
from dspex_bus.wire import SessionEnded, decode_event

from .test_unsure import TASK, Unsure, unsure

__all__ = ["unsure"]

pytestmark = pytest.mark.anyio


async def test_a_session_that_cannot_be_gone_on_with_ends_by_itself(
    unsure: Unsure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, task, end = unsure.bus.store, subjects.task("p", "normal", "s", "0", 1), subjects.end(0, "s")

    async def mistaken(subject: str, data: bytes, **more: Any) -> None:
        if subject == task:
            raise ValueError("nobody foresaw this")
        await store(subject, data, **more)

    monkeypatch.setattr(unsure.bus, "store", mistaken)
    unsure.sure = True
    await unsure.start(TASK)
    with anyio.fail_after(5):
        while (stored := await unsure.bus.last(EVENTS, end)) is None:
            await anyio.sleep(0.01)
    ended = decode_event(stored.data, subject=end)
    assert isinstance(ended, SessionEnded)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == ("failed", "internal")
    assert "s" not in unsure.owner.sessions
    await unsure.owner.on_stored(stored)
    assert "s" not in unsure.owner.broken
