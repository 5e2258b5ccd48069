"""The parts of a system as processes that tests start, kill, stop and start again."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import anyio
import msgspec

from dspex_services.supervisor import PoolSpec

from .handlers import LOG

TESTS = Path(__file__).parent.parent
POOL = "chaos"
READY_S = 30
_CLOCK = Path(__file__).parent / "clock"

_libc = ctypes.CDLL(None)


class Part:
    """A process that says ``ready``. Its standard error goes to ``log``."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._command = command
        self._environment = {**os.environ, LOG: str(folder / "executions"), **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment,
                preexec_fn=partial(die_with_us, os.getpid()),
            )

    async def ready(self) -> bool:
        """Once it serves; False where it ended first."""
        assert self._process is not None
        assert self._process.stdout is not None
        with anyio.fail_after(READY_S):
            line = await anyio.to_thread.run_sync(self._process.stdout.readline, abandon_on_cancel=True)
        return b"ready" in line

    async def started(self) -> Part:
        self.start()
        assert await self.ready(), f"{self.name} ended as it started:\n{self.log.read_text()}"
        return self

    @property
    def code(self) -> int | None:
        """How it ended, None while it runs."""
        return self._process.poll() if self._process is not None else 0

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL

    def send(self, what: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(what)

    async def ended(self, within_s: float) -> bool:
        with anyio.move_on_after(within_s):
            while self.code is None:
                await anyio.sleep(0.01)
        return self.code is not None

    def kill(self) -> None:
        """As a crash would; safe to repeat."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            assert self._process.stdout is not None
            self._process.stdout.close()


def router(server: str, folder: Path, *, name: str = "router", arguments: tuple[str, ...] = (), **env: str) -> Part:
    command = [sys.executable, "-m", "dspex", "router", "--server", server, *arguments]
    return Part(name, command, folder, env)


def worker(
    server: str,
    folder: Path,
    *,
    name: str = "worker",
    ack_wait_s: float = 1.0,
    slots: int = 8,
    drain_s: float = 1.0,
    **env: str,
) -> Part:
    """One worker of the pool of the chaos tests' handlers, without a supervisor that would start it again."""
    spec = PoolSpec(
        pool=POOL,
        handlers=("chaos.handlers:handlers",),
        slots=slots,
        ack_wait_s=ack_wait_s,
        drain_s=drain_s,
        path=(str(TESTS),),
    )
    told = msgspec.json.encode(spec).decode()
    command = [sys.executable, "-m", "dspex_services.worker", server, told, str(os.getpid())]
    return Part(name, command, folder, {**env, "PYTHONUNBUFFERED": "1"})


def with_a_clock(told: Path) -> dict[str, str]:
    """The environment of a part whose wall clock is off by as many seconds as the file says."""
    told.write_text("0")
    return {"PYTHONPATH": str(_CLOCK), "DSPEX_TEST_CLOCK": str(told)}


def die_with_us(parent: int) -> None:
    _libc.prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
