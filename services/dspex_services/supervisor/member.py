"""A worker under its supervisor: from its start to its end, and what is done once it is dead."""

from __future__ import annotations

import itertools
import logging
import socket
import time
from collections.abc import Callable

import anyio
from anyio.to_thread import run_sync

from dspex_bus import Bus, subjects
from dspex_bus.errors import DeadlineExceeded, DspexError, Unavailable
from dspex_bus.wire import WorkerClaims, WorkerPresence, encode

from ..worker.__main__ import CANNOT
from ..worker.deaths import record
from ..worker.spec import PoolSpec
from .answering import answer
from .guard import Guard
from .leftovers import kill_marked
from .output import Output
from .process import WorkerProcess, read

logger = logging.getLogger("dspex.supervisor")

_KILL_MARGIN_S = 5.0
_LAST_WORDS_S = 1.0
_NOTICED_S = 1.0
_ASK_S = 0.05
_LASTING = (FileNotFoundError, PermissionError, NotADirectoryError)
_numbers = itertools.count(1)


class Member:
    """``changed`` is called when it is ready and when it is ``over``; ``code`` is its exit code then. ``said`` is its
    latest announcement, ``heard_at`` when that was. ``due`` says why it is to be replaced, ``leaving`` that it was told
    to go."""

    def __init__(self, server: str, spec: PoolSpec, bus: Bus, guard: Guard) -> None:
        self.spec = spec
        self.number = next(_numbers)
        self.began = time.monotonic()
        self.name = ""
        self.due = ""
        self.leaving = False
        self.code: int | None = None
        self.over = False
        self.said: WorkerPresence | None = None
        self.heard_at = time.monotonic()
        self.output = Output(spec.pool)
        self._server = server
        self._bus = bus
        self._guard = guard
        self._process: WorkerProcess | None = None
        self._patience = anyio.CancelScope()
        self._lasting: set[str] = set()

    async def run(self, changed: Callable[[], None]) -> None:
        """Until it has ended and its tasks are given back. Cancelling does nothing: :meth:`stop` it."""
        with anyio.CancelScope(shield=True):
            if self.leaving:
                self.code, self.over = 0, True
                return
            mark = f"{self._guard.mark}{self.number};"
            try:
                process = self._process = WorkerProcess(self._server, self.spec, mark)
            except OSError as error:
                self._never_was(error)
                return changed()
            self._guard.born(process.pid)
            try:
                async with anyio.create_task_group() as reading:
                    reading.start_soon(self.output.pass_on, read(process.output))
                    reading.start_soon(self._await_ready, process, changed)
                    await self._ended(process)
                    await self._give_back(process)
                    await run_sync(kill_marked, mark)
                    reading.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS_S
            finally:
                self._guard.gone(process.pid)
                process.close()
                self.over = True
                changed()

    def _never_was(self, error: OSError) -> None:
        """A Python that is not there is no reason to try again; a full table of processes is."""
        self.output.say(f"error: no process could be started: {error}")
        self.code, self.over = CANNOT if isinstance(error, _LASTING) else 1, True

    async def _await_ready(self, process: WorkerProcess, changed: Callable[[], None]) -> None:
        said = b""
        async for chunk in read(process.ready):
            said += chunk
            if said.endswith(b"\n"):
                self.name = said.decode().removeprefix("ready ").strip()
                self.heard_at = time.monotonic()
                changed()

    async def _ended(self, process: WorkerProcess) -> None:
        with self._patience:
            await process.ended()
        if self._patience.cancelled_caught:
            process.kill()
            await process.ended()
        self.code = process.reap()

    async def _give_back(self, process: WorkerProcess) -> None:
        """Have what it held delivered to others at once. After an orderly end it holds nothing."""
        await answer(self._bus, self.name, process.claims.calls())
        receipts = process.claims.read()
        if not receipts:
            return
        try:
            if not self.leaving:
                await record(self._bus, process.claims.running())
            await self._noticed()
            for receipt in receipts:
                await self._bus.give_back(receipt)
            gone = WorkerPresence(worker=self.name, pool=self.spec.pool, state="leaving")
            if self.name:
                await self._bus.publish(subjects.presence(self.spec.pool, self.name), encode(gone))
        except DspexError as error:
            logger.warning("what %s held was not given back, its ack wait will do it: %s", self.name, error)

    async def _noticed(self) -> None:
        """Until the server knows that it is gone: before, it might deliver the tasks to it again."""
        with anyio.move_on_after(_NOTICED_S if self.name else 0):
            while True:
                try:
                    await self._bus.request(subjects.probe(self.name), timeout_s=_ASK_S)
                except DeadlineExceeded:
                    continue
                except Unavailable as error:
                    if error.code == "no_responders":
                        return
                    raise

    # --- what its pool asks ---

    @property
    def ready(self) -> bool:
        return bool(self.name) and not self.leaving and self.code is None

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.began

    def stop(self) -> None:
        """Have it drain within its time, and kill it when it has not."""
        self.leaving = True
        if self._process is not None and self.code is None:
            self._patience.deadline = anyio.current_time() + self.spec.drain_s + _KILL_MARGIN_S
            self._process.stop()

    def retire(self) -> None:
        """Have it finish what it has, take no more, and leave."""
        self.leaving = True
        if self._process is not None and self.code is None:
            self._process.retire()

    def said_by(self, said: WorkerPresence) -> bool:
        """Whether it is this one that said so; it may do that before we know its name."""
        if self.name or self._process is None:
            return self.name == said.worker
        return (said.pid, said.host) == (self._process.pid, socket.gethostname())

    def hear(self, said: WorkerPresence) -> None:
        self.said, self.heard_at = said, time.monotonic()

    def kill(self) -> None:
        """It does not answer any more."""
        if self._process is not None and self.code is None:
            self._process.kill()

    def held(self) -> list[str]:
        """The receipts of what it holds."""
        return self._process.claims.read() if self._process is not None and self.code is None else []

    def claims(self) -> WorkerClaims | None:
        """What it holds now and held when we asked last: tasks that are over in a moment are not worth telling."""
        if not self.name or self.code is not None:
            return None
        held = set(self.held())
        lasting, self._lasting = held & self._lasting, held
        return WorkerClaims(worker=self.name, pool=self.spec.pool, receipts=tuple(sorted(lasting)))
