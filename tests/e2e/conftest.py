"""A whole system, started as a user starts it: ``dspex up``, and ``dspex serve`` for handlers of one's own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client as Nats

import dspex

from .processes import ROOT, offline_environment

HERE = Path(__file__).parent
DOCUMENTS = ROOT / "docs"
READY_S = 40


@dataclass(frozen=True)
class RunningSystem:
    """``environment`` is what a command needs to talk to it."""

    url: str
    data: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**offline_environment(), "DSPEX_SERVER": self.url}


@contextmanager
def command(
    *arguments: str, environment: dict[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[subprocess.Popen[str]]:
    """A ``dspex`` process, told to stop at the end and seen to obey."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dspex", *arguments],
        cwd=cwd,
        env=environment or offline_environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()
            process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    data = tmp_path_factory.mktemp("data")
    folders = ("--data", str(data), "--documents", str(DOCUMENTS), "--templates", str(HERE / "templates"))
    arguments = ("up", "--port", "0", *folders, "--dspy", "1", "--json")
    with command(*arguments) as up:
        system = RunningSystem(url=json.loads(first_line(up))["server"], data=data)
        serve = ("serve", "rough:handlers", "--pool", "rough", "--ack-wait", "1")
        with command(*serve, environment=system.environment, cwd=HERE) as pool:
            assert "ready" in first_line(pool)
            yield system


def first_line(process: subprocess.Popen[str]) -> str:
    """Its first line of output; pytest's own timeout bounds the wait."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"it ended with {process.wait(READY_S)} before it was ready"
    return line


@pytest.fixture
async def client(running: RunningSystem) -> AsyncIterator[dspex.Client]:
    async with dspex.connect(running.url) as connected:
        yield connected


@pytest.fixture
async def raw(running: RunningSystem) -> AsyncIterator[Nats]:
    """A client that is not ours."""
    connection = await nats.connect(running.url)
    yield connection
    await connection.close()
