"""The examples of runs that outlast what they run on: an approval, and a batch that is cancelled and gone on with."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.streams import EVENTS
from dspex_bus.wire import SessionEnded, StepSucceeded

from .history import Observed, check
from .journal import histories, read_journal
from .parts import Part, router

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def native_pool(server: EmbeddedServer, folder: Path) -> Part:
    return Part("native", [sys.executable, "-m", "dspex", "pool", "native", "--server", server.url], folder, {})


def example(server: EmbeddedServer, *line: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(EXAMPLES / line[0]), *line[1:]]
    environment = {**os.environ, "DSPEX_SERVER": server.url}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


async def said(process: subprocess.Popen[str]) -> str:
    """What it prints until it ends."""
    output, _ = await anyio.to_thread.run_sync(lambda: process.communicate(timeout=40))
    assert process.returncode == 0, output
    return output.strip()


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer() as started:
        yield started


async def test_an_approval_outlasts_its_router(server: EmbeddedServer, tmp_path: Path) -> None:
    parts = [await router(server.url, tmp_path).started()]
    try:
        parts.append(await native_pool(server, tmp_path).started())
        session = await said(example(server, "approval.py", "start", "Ada"))
        parts[0].kill()
        parts.append(await router(server.url, tmp_path, name="another").started())
        answer = await said(example(server, "approval.py", "approve", session, "Grace"))
    finally:
        for part in parts:
            part.kill()
    assert answer == "Sent, approved by Grace: Dear Ada, your order has been shipped."


@pytest.mark.slow
async def test_a_batch_is_cancelled_half_way_and_gone_on_with(server: EmbeddedServer, tmp_path: Path) -> None:
    runs = 1000
    parts = [await router(server.url, tmp_path).started()]
    try:
        parts.append(await native_pool(server, tmp_path).started())
        async with NatsBus(server.url, name="watcher") as bus:
            cancelled = example(server, "batch.py", str(runs), "night")
            with anyio.fail_after(30):
                while (await bus.stream_info(EVENTS))["messages"] < runs:
                    await anyio.sleep(0.02)
            cancelled.send_signal(signal.SIGINT)
            found = re.fullmatch(r"cancelled after (\d+) of 1000 runs; the same command goes on", await said(cancelled))
            assert found is not None
            assert 0 < int(found[1]) < runs
            assert await said(example(server, "batch.py", str(runs), "night")) == "1000 of 1000 runs are done"
            journal = await read_journal(bus)
    finally:
        for part in parts:
            part.kill()
    assert check(journal, Observed()) == []
    done = {re.sub("-again$", "", id) for id, history in histories(journal).items() if _succeeded(history.ended)}
    assert len(done) == runs
    # What was done before the batch was cancelled is not done again.
    assert sum(isinstance(kept.event, StepSucceeded) for kept in journal) < runs + 64


def _succeeded(ended: object) -> bool:
    event = getattr(ended, "event", None)
    return isinstance(event, SessionEnded) and event.status == "succeeded"
