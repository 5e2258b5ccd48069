"""A worker process: ``python -m dspex_services.worker SERVER SPEC PARENT``: a URL, a PoolSpec as JSON, the
supervisor's pid.

It prints ``ready NAME`` once it serves. Exit codes: 0 told to stop, 1 broken, 3 it cannot be set up (no use to try
again)."""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import signal
import sys
from typing import Any

import anyio
import msgspec

from dspex_bus import NatsBus
from dspex_bus.errors import SetupError
from dspex_bus.process import loop_options, settle

from ..lm import LMConfig
from .config import WorkerConfig
from .spec import PoolSpec, load_handlers
from .worker import Worker

CANNOT = 3
_PR_SET_PDEATHSIG = 1


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    server, spec = sys.argv[1], msgspec.json.decode(sys.argv[2], type=PoolSpec)
    _die_with(int(sys.argv[3]))
    try:
        handlers = load_handlers(spec)
    except SetupError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(CANNOT)
    model = LMConfig.from_environment(os.environ)
    config = WorkerConfig(
        pool=spec.pool,
        slots=spec.slots,
        ack_wait_s=spec.ack_wait_s,
        drain_s=spec.drain_s,
        model=model.model if model else "",
    )
    work = functools.partial(_work, server, handlers, config)
    anyio.run(work, backend_options=loop_options())


async def _work(server: str, handlers: Any, config: WorkerConfig) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_until_told, group.cancel_scope)
        async with NatsBus(server, name=config.name) as bus, anyio.create_task_group() as serving:
            await serving.start(Worker(bus, handlers, config).run)
            settle()
            print(f"ready {config.name}", flush=True)


async def _until_told(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


def _die_with(parent: int) -> None:
    """Have the kernel kill us when the supervisor ends, however it ends: no worker is ever left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(0)


if __name__ == "__main__":
    main()
