"""A worker process: ``python -m dspex_services.worker SERVER SPEC PARENT [CLAIMS READY]``: a URL, a PoolSpec as JSON,
the supervisor's pid, and descriptors of the claims and of where ``ready NAME`` is written once it serves.

Exit codes: 0 told to stop, 1 broken, 3 it cannot be set up (no use to try again)."""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import signal
import sys
import threading

import anyio
import msgspec

from dspex_bus import NatsBus
from dspex_bus.errors import DspexError, SetupError
from dspex_bus.process import loop_options, settle

from ..handlers import Handlers
from ..lm import LMConfig
from .claims import Claims
from .config import WorkerConfig
from .spec import PoolSpec, load_handlers
from .worker import Worker

CANNOT = 3
RETIRE = signal.SIGUSR1
_PATIENCE_S = 86_400.0
"""Steps end by their timeouts long before."""
_LAST_S = 2.0
_PR_SET_PDEATHSIG = 1


def main() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    server, spec = sys.argv[1], msgspec.json.decode(sys.argv[2], type=PoolSpec)
    _die_with(int(sys.argv[3]))
    claims = Claims.of(int(sys.argv[4])) if len(sys.argv) > 4 else Claims.nowhere()
    ready = int(sys.argv[5]) if len(sys.argv) > 5 else 1
    try:
        handlers = load_handlers(spec)
        model = LMConfig.from_environment(os.environ)
        config = WorkerConfig(
            pool=spec.pool,
            slots=spec.slots,
            ack_wait_s=spec.ack_wait_s,
            drain_s=spec.drain_s,
            model=model.model if model else "",
        )
        anyio.run(_work, server, handlers, config, claims, ready, backend_options=loop_options())
    except (DspexError, BaseExceptionGroup) as raised:
        error = _first(raised)
        if not isinstance(error, DspexError):
            raise
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(CANNOT if isinstance(error, SetupError) else 1)


async def _work(server: str, handlers: Handlers, config: WorkerConfig, claims: Claims, ready: int) -> None:
    async with anyio.create_task_group() as group, NatsBus(server, name=config.name) as bus:
        worker = Worker(bus, handlers, config, claims)
        serving = anyio.CancelScope()
        group.start_soon(_until_told, worker, serving)
        with serving:
            async with anyio.create_task_group() as running:
                await running.start(worker.run)
                settle()
                os.write(ready, f"ready {config.name}\n".encode())
                if config.model:
                    # The first call of the model would wait for it, and being ready should not.
                    running.start_soon(_imported, "aiohttp")
        group.cancel_scope.cancel()
    _leave_soon()


async def _imported(name: str) -> None:
    await anyio.to_thread.run_sync(importlib.import_module, name)


async def _until_told(worker: Worker, serving: anyio.CancelScope) -> None:
    """Told to retire, it finishes what it has, however long that takes; told to stop, it has ``drain_s``."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, RETIRE) as signals:
        async for received in signals:
            worker.leave(_PATIENCE_S if received == RETIRE else worker.config.drain_s)
            serving.cancel()


def _leave_soon() -> None:
    """Python waits at its end for threads, and a handler's may hang: not for long."""
    leaving = threading.Timer(_LAST_S, os._exit, (0,))
    leaving.daemon = True
    leaving.start()


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _die_with(parent: int) -> None:
    """Have the kernel kill us when the supervisor ends, however it ends: no worker is ever left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(0)


if __name__ == "__main__":
    main()
