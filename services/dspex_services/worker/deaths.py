"""How often a worker died while it ran a task, and which task it died of.

Deliveries do not tell: a task is delivered again, too, when a worker drains, and when it never came to be run. And the
tasks that run beside one that kills its worker shall not be lost with it.

So supervisors record which tasks were running when a worker died. A task that has been there twice is a suspect, and a
worker runs one suspect at a time: the next death tells which it was.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import anyio
import msgspec

from dspex_bus import Bus
from dspex_bus.errors import DspexError
from dspex_bus.streams import CACHE

from .config import MAX_DELIVERIES

logger = logging.getLogger("dspex.worker")

_KEPT_S = 86_400.0
_MOST_DELIVERIES = 20
"""Whatever the reason: nobody is to have it any more."""

Verdict = Literal["run", "alone", "lost"]


class Deaths(msgspec.Struct, frozen=True, array_like=True):
    """``surely`` counts those that were of this task and no other."""

    seen: int = 0
    surely: int = 0


_decode = msgspec.json.Decoder(Deaths).decode


def verdict(deliveries: int, deaths: Deaths | None) -> Verdict:
    """What is to be done with a task. ``deaths`` None: there is no supervisor that would have recorded any, so every
    delivery before counts as one."""
    if deliveries < MAX_DELIVERIES:
        return "run"
    if deaths is None or deliveries >= _MOST_DELIVERIES:
        return "lost"
    if not _is_suspect(deaths):
        return "run"
    return "lost" if deaths.surely else "alone"


def one_more(before: Sequence[Deaths]) -> list[Deaths]:
    """The tasks that ran when a worker died, after that."""
    suspects = [deaths for deaths in before if _is_suspect(deaths)]
    return [Deaths(deaths.seen + 1, deaths.surely + (len(before) == 1 or suspects == [deaths])) for deaths in before]


def _is_suspect(deaths: Deaths) -> bool:
    return deaths.seen >= MAX_DELIVERIES - 1


async def deaths_of(bus: Bus, receipt: str) -> Deaths | None:
    """None where they cannot be known."""
    try:
        entry = await bus.key_value(CACHE).get(_key(bus, receipt))
        return _decode(entry.value) if entry else Deaths()
    except (DspexError, msgspec.MsgspecError):
        return None


async def record(bus: Bus, receipts: Sequence[str]) -> None:
    """A worker died while it ran these. Where that cannot be kept, they are given up after the fewest deliveries."""
    before: dict[str, Deaths] = {}

    async def read(receipt: str) -> None:
        before[receipt] = await deaths_of(bus, receipt) or Deaths()

    async def write(receipt: str, deaths: Deaths) -> None:
        try:
            await bus.key_value(CACHE).put(_key(bus, receipt), msgspec.json.encode(deaths), ttl_s=_KEPT_S)
        except DspexError as error:
            logger.warning("a worker's death was not recorded: %s", error)

    async with anyio.create_task_group() as reading:
        for receipt in receipts:
            reading.start_soon(read, receipt)
    async with anyio.create_task_group() as writing:
        for receipt, deaths in zip(receipts, one_more([before[one] for one in receipts]), strict=True):
            writing.start_soon(write, receipt, deaths)


def _key(bus: Bus, receipt: str) -> str:
    return f"deaths.{bus.task_of(receipt)}"
