"""One worker process: started so that it cannot outlive its supervisor, seen to end, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec

from ..worker.__main__ import CANNOT, RETIRE
from ..worker.claims import Claims, make_file
from ..worker.spec import PoolSpec
from .leftovers import MARK, kill_group

# A worker's parallelism is its slots: libraries that start a thread for every core would multiply it.
_ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
_ELSEWHERE = f"""
import sys
try:
    from dspex_services.worker.__main__ import main
except ImportError as error:
    print(f"error: {{sys.executable}} cannot run workers: {{error}}", file=sys.stderr)
    sys.exit({CANNOT})
main()
"""
"""Another Python may lack us: no use to try again."""

_READ = 65_536
_POLL_S = 0.02


def environment(spec: PoolSpec, mark: str) -> dict[str, str]:
    """What the operator sets, for all or for the pool, wins over our thread counts."""
    threads = dict.fromkeys(_ONE_THREAD, "1") | {"TOKENIZERS_PARALLELISM": "false"}
    return {**threads, **os.environ, **spec.environment, "PYTHONUNBUFFERED": "1", MARK: mark}


def _python(spec: PoolSpec) -> list[str]:
    if not spec.python:
        return [sys.executable, "-m", "dspex_services.worker"]
    given = Path(spec.python)
    return [str(given / "bin" / "python" if given.is_dir() else given), "-c", _ELSEWHERE]


class WorkerProcess:
    """``output`` is the reading end of what it prints, ``ready`` of where it says that it serves."""

    def __init__(self, server: str, spec: PoolSpec, mark: str) -> None:
        file = make_file(spec.slots)
        self.claims = Claims.of(file)
        self.output, printing = os.pipe()
        self.ready, telling = os.pipe()
        command = [*_python(spec), server, msgspec.json.encode(spec).decode()]
        try:
            # In a process group of its own: a terminal's Ctrl-C reaches the supervisor alone, which drains it.
            self._process = subprocess.Popen(
                [*command, str(os.getpid()), str(file), str(telling)],
                stdin=subprocess.DEVNULL,
                stdout=printing,
                stderr=printing,
                pass_fds=(file, telling),
                env=environment(spec, mark),
                start_new_session=True,
            )
        except BaseException:
            self.close()
            raise
        finally:
            for descriptor in (file, printing, telling):
                os.close(descriptor)
        self.pid = self._process.pid

    async def ended(self) -> None:
        """Until it has ended. It is not reaped then: its pid, and its group's id, are still its own."""
        try:
            watched = os.pidfd_open(self.pid)
        except (AttributeError, OSError):  # another system than Linux, or an old one
            while not self._is_over():
                await anyio.sleep(_POLL_S)
            return
        try:
            await anyio.wait_readable(watched)
        finally:
            os.close(watched)

    def _is_over(self) -> bool:
        if not hasattr(os, "waitid"):  # then it is reaped here
            return self._process.poll() is not None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def reap(self) -> int:
        """Once it has ended: its exit code, below 0 the signal that ended it. What else is in its group is killed."""
        kill_group(self.pid)
        return self._process.wait()

    def stop(self) -> None:
        """Ask it to drain."""
        self._process.terminate()

    def retire(self) -> None:
        """Ask it to finish what it has, and leave."""
        self._process.send_signal(RETIRE)

    def kill(self) -> None:
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        self.claims.close()
        for descriptor in (self.output, self.ready):
            with contextlib.suppress(OSError):
                os.close(descriptor)


async def read(descriptor: int) -> AsyncIterator[bytes]:
    """What comes through a pipe, until nobody holds its other end."""
    while True:
        await anyio.wait_readable(descriptor)
        data = os.read(descriptor, _READ)
        if not data:
            return
        yield data
