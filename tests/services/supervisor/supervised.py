"""Supervisors with real worker processes, as the tests of this folder start them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from dspex_bus import Message
from dspex_services.supervisor import PoolSpec, Supervisor

from ..rig import Rig

WORK = Path(__file__).parent / "work"
PATIENCE_S = 20.0


def spec(rig: Rig, **fields: Any) -> PoolSpec:
    values = {"pool": rig.pool, "handlers": ("unruly:handlers",), "path": (str(WORK),), "ack_wait_s": 60.0}
    return PoolSpec(**{**values, **fields})


@asynccontextmanager
async def supervised(rig: Rig, *specs: PoolSpec, **fields: Any) -> AsyncIterator[Supervisor]:
    """Of the pools given, or of the rig's pool; drained at the end."""
    supervisor = Supervisor(rig.url, specs or [spec(rig, **fields)])
    async with anyio.create_task_group() as group:
        with anyio.fail_after(PATIENCE_S):
            await group.start(supervisor.run)
        yield supervisor
        group.cancel_scope.cancel()


class Holds:
    """Tasks that hold: each tells when it begins, and ends when it is let go."""

    def __init__(self, rig: Rig) -> None:
        self.subject = f"tests.{rig.pool}"
        self.began: list[tuple[int, Message]] = []
        self._rig = rig

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Holds]:
        subscription = await self._rig.bus.subscribe(self.subject, self._on_began)
        yield self
        await subscription.close()

    async def _on_began(self, message: Message) -> None:
        self.began.append((int(message.data), message))
        self._rig.changed()

    async def until(self, count: int, within_s: float = PATIENCE_S) -> list[int]:
        """The processes in which they began, once that many have."""
        await self._rig.until(lambda: len(self.began) >= count, within_s)
        return [pid for pid, _ in self.began]

    async def let_go(self, number: int) -> None:
        await self._rig.bus.publish(self.began[number][1].reply)


def descendants(pid: int) -> list[int]:
    """The process's children, theirs, and so on."""
    children: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        children += map(int, (thread / "children").read_text().split())
    return [*children, *(deeper for child in children for deeper in descendants(child))]


async def gone(pids: list[int], within_s: float = 10.0) -> None:
    """Until none of the processes is there, or only as a zombie."""
    with anyio.fail_after(within_s):
        while any(map(_alive, pids)):
            await anyio.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def since(began: float) -> float:
    return time.monotonic() - began
