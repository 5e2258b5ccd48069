"""The step cache: an equal step's outputs, kept for as long as the step says."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import msgspec

from dspex_bus import Bus
from dspex_bus.errors import DspexError
from dspex_bus.streams import CACHE
from dspex_bus.wire import Task

logger = logging.getLogger("dspex.worker")
_canonical = msgspec.json.Encoder(order="deterministic")


class StepCache:
    """Outputs by handler, constants and inputs. A cache that does not answer is a cache that has nothing."""

    def __init__(self, bus: Bus) -> None:
        self._bucket = bus.key_value(CACHE)

    async def get(self, task: Task) -> dict[str, Any] | None:
        try:
            entry = await self._bucket.get(key(task))
        except DspexError as error:
            logger.warning("the step cache was not read: %s", error)
            return None
        return None if entry is None else msgspec.json.decode(entry.value, type=dict[str, Any])

    async def put(self, task: Task, outputs: dict[str, Any]) -> None:
        try:
            await self._bucket.put(key(task), msgspec.json.encode(outputs), ttl_s=max(1.0, task.cache_ms / 1000))
        except DspexError as error:
            logger.warning("the step cache was not written: %s", error)


def key(task: Task) -> str:
    content = _canonical.encode([task.handler, task.implementation, task.options, task.inputs])
    return f"step.{hashlib.blake2b(content, digest_size=16).hexdigest()}"
