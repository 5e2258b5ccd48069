"""What pipelines' names stand for, remembered for a moment: the same ones are started over and over."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from dspex_bus import Bus, Message, subjects
from dspex_bus.wire import PipelineDefinition

from ..plan import Reference

FRESH_S = 1.0
"""A router that was not heard is believed after that long at the latest."""

_KEPT = 1024


class Definitions:
    """Routers tell each other that a pipeline has changed before they answer whoever changed it, so a run that is
    asked for after the answer finds the new one, whichever router takes it."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._kept: dict[Reference, tuple[PipelineDefinition, float]] = {}
        self._changes = 0

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        async with self._bus.subscribed(subjects.PIPELINES_CHANGED, self._on_changed):
            yield

    async def changed(self) -> None:
        """Forget what is kept, here and in every other router."""
        self._forget()
        await self._bus.publish(subjects.PIPELINES_CHANGED)

    async def get(
        self, reference: Reference, look: Callable[[Reference], Awaitable[PipelineDefinition]]
    ) -> PipelineDefinition:
        kept = self._kept.get(reference)
        if kept is not None and time.monotonic() < kept[1]:
            return kept[0]
        changes, fresh_until = self._changes, time.monotonic() + FRESH_S
        definition = await look(reference)
        if changes == self._changes:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[reference] = (definition, fresh_until)
        return definition

    async def _on_changed(self, _message: Message) -> None:
        self._forget()

    def _forget(self) -> None:
        self._changes += 1
        self._kept.clear()
