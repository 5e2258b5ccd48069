"""One worker process: started so that it cannot outlive its supervisor, and stopped within a bounded time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import anyio
import anyio.abc
import msgspec

from ..worker.spec import PoolSpec

_KILL_MARGIN_S = 5.0

# A worker's parallelism is its slots: libraries that start a thread for every core would multiply it.
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TOKENIZERS_PARALLELISM",
)


def environment(spec: PoolSpec) -> dict[str, str]:
    threads = dict.fromkeys(_ONE_THREAD, "1") | {"TOKENIZERS_PARALLELISM": "false"}
    return {**threads, **os.environ, **spec.environment, "PYTHONUNBUFFERED": "1"}


async def start(server: str, spec: PoolSpec) -> anyio.abc.Process:
    """In a process group of its own, so that a terminal's Ctrl-C reaches the supervisor alone, which drains it."""
    return await anyio.open_process(
        [sys.executable, "-m", "dspex_services.worker", server, msgspec.json.encode(spec).decode(), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(spec),
        start_new_session=True,
    )


async def stop(process: anyio.abc.Process, grace_s: float) -> None:
    """Ask it to drain; kill its group when it has not within the grace."""
    if process.returncode is not None:
        return
    process.terminate()
    with anyio.move_on_after(grace_s + _KILL_MARGIN_S):
        await process.wait()
    # Only while it has not been waited for is its pid, the group's id, certain to be its own.
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
