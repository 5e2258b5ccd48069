"""Presence: said every second and whenever somebody calls the roll, so that nothing depends on having heard it once."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Literal

import anyio
from anyio.abc import TaskStatus

from dspex_bus import Message, subjects
from dspex_bus.errors import DspexError
from dspex_bus.wire import WorkerPresence, encode

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("dspex.worker")
INTERVAL_S = 1.0


class Presence:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._started_ms = int(time.time() * 1000)
        self._state: Literal["ready", "draining", "leaving"] = "ready"
        self._subject = subjects.presence(worker.config.pool, worker.config.name)

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with self._worker.bus.subscribed(subjects.ROLL_CALL, self._on_roll_call):
            await self._say()
            task_status.started()
            while True:
                await anyio.sleep(INTERVAL_S)
                await self._say()

    def drain(self) -> None:
        """Say from now on that no work is taken any more."""
        self._state = "draining"

    async def leave(self) -> None:
        self._state = "leaving"
        await self._say()

    async def _on_roll_call(self, message: Message) -> None:
        await self._say()

    async def _say(self) -> None:
        config, bus = self._worker.config, self._worker.bus
        if not bus.connected:  # what waits for the connection's return would be stale by then
            return
        said = WorkerPresence(
            worker=config.name,
            pool=config.pool,
            host=socket.gethostname(),
            pid=os.getpid(),
            started_ms=self._started_ms,
            slots=config.slots,
            busy=self._worker.busy,
            waiting=self._worker.direct.waiting,
            done=self._worker.done,
            redelivered=self._worker.stored.redelivered,
            late=self._worker.stored.late,
            memory_bytes=_resident_bytes(),
            model=config.model,
            state=self._state,
            handlers=self._worker.handlers.infos(),
        )
        try:
            await bus.publish(self._subject, encode(said))
        except DspexError as error:
            logger.debug("presence was not said: %s", error)


def _resident_bytes() -> int:
    """Resident memory, 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
