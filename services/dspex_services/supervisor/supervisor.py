"""Pools of worker processes, kept at their size."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence

import anyio
import anyio.abc
from anyio.abc import ByteReceiveStream, TaskStatus
from anyio.streams.text import TextReceiveStream

from ..errors import SetupError
from ..worker.__main__ import CANNOT
from ..worker.spec import PoolSpec
from . import process

logger = logging.getLogger("dspex.supervisor")

_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 10.0
_STEADY_S = 30.0
"""A worker that lived this long is restarted at once: it is no crash loop."""


class Supervisor:
    """Keeps ``spec.size`` processes of every pool running.

        await group.start(Supervisor("nats://127.0.0.1:4222", specs).run)

    ``run`` reports readiness when every worker has, and runs until cancelled; then every worker drains. A worker
    that ends is started again, with a delay that doubles while it keeps ending. Raises SetupError when a worker
    cannot be set up."""

    def __init__(self, server: str, specs: Sequence[PoolSpec]) -> None:
        self._server = server
        self._specs = tuple(specs)
        self.restarts = 0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as group:
            async with anyio.create_task_group() as starting:
                for spec in self._specs:
                    for _ in range(spec.size):
                        starting.start_soon(group.start, self._keep, spec)
            task_status.started()

    async def _keep(self, spec: PoolSpec, *, task_status: TaskStatus[None]) -> None:
        delay, told = 0.0, False

        def ready() -> None:
            nonlocal told
            if not told:
                told = True
                task_status.started()

        while True:
            began = time.monotonic()
            code = await self._live(spec, ready)
            if code == CANNOT:
                raise SetupError(f"a worker of the pool {spec.pool} cannot be set up; it said why above")
            lived = time.monotonic() - began
            delay = _FIRST_DELAY_S if lived > _STEADY_S else min(_LONGEST_DELAY_S, max(_FIRST_DELAY_S, 2 * delay))
            self.restarts += 1
            logger.warning(
                "a worker of the pool %s ended with %s after %.1f s; another starts in %.1f s",
                spec.pool,
                code,
                lived,
                delay,
            )
            await anyio.sleep(delay)

    async def _live(self, spec: PoolSpec, ready: Callable[[], None]) -> int | None:
        """One process from its start to its end; its exit code."""
        child = await process.start(self._server, spec)
        try:
            async with anyio.create_task_group() as group:
                assert child.stdout is not None
                assert child.stderr is not None
                group.start_soon(_pass_on, child.stderr, spec.pool)
                if await _announced(child):
                    ready()
                    # What handlers print goes to our standard error too: a pipe nobody reads would block them.
                    group.start_soon(_pass_on, child.stdout, spec.pool)
                await child.wait()
                group.cancel_scope.cancel()
            return child.returncode
        finally:
            with anyio.CancelScope(shield=True):
                await process.stop(child, spec.drain_s)
                await child.aclose()


async def _announced(child: anyio.abc.Process) -> bool:
    """Whether it said that it is ready; False when it ended first."""
    assert child.stdout is not None
    async for text in TextReceiveStream(child.stdout):
        if text.startswith("ready"):
            return True
    return False


async def _pass_on(stream: ByteReceiveStream, pool: str) -> None:
    """To our standard error, each line with the pool's name before it."""
    rest = ""
    async for text in TextReceiveStream(stream, errors="replace"):
        *lines, rest = (rest + text).split("\n")
        for line in filter(None, lines):
            print(f"[{pool}] {line}", file=sys.stderr)
    if rest:
        print(f"[{pool}] {rest}", file=sys.stderr)
