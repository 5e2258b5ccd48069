"""The embedded server: found, started, kept, killed, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from dspex_bus import EmbeddedServer, NatsBus, find_nats_server
from dspex_bus.errors import SetupError
from dspex_bus.streams import StreamSpec

pytestmark = pytest.mark.anyio

KEPT = StreamSpec(name="KEPT", subjects=("kept.>",))


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until_gone(pid: int) -> None:
    with anyio.fail_after(10):
        while running(pid):
            await anyio.sleep(0.01)


async def test_it_serves_on_a_free_port_and_is_gone_afterwards() -> None:
    async with EmbeddedServer() as one, EmbeddedServer() as other:
        assert one.port != other.port
        pids = [one.pid, other.pid]
        async with NatsBus(one.url, name="a") as bus:
            await bus.prepare([KEPT], [])
            assert (await bus.store_and_wait("kept.a", b"1")).created
    for pid in pids:
        assert pid is not None
        await until_gone(pid)


async def test_what_is_stored_in_a_folder_is_there_at_the_next_start(tmp_path: Path) -> None:
    for start in range(2):
        async with EmbeddedServer(data_dir=tmp_path / "data") as server, NatsBus(server.url, name="a") as bus:
            await bus.prepare([KEPT], [])
            assert (await bus.store_and_wait("kept.a", b"1", once=True)).created is (start == 0)


async def test_sync_always_serves_too() -> None:
    async with EmbeddedServer(sync_always=True) as server, NatsBus(server.url, name="a") as bus:
        await bus.prepare([KEPT], [])
        assert (await bus.store_and_wait("kept.a", b"1")).created


async def test_no_binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DSPEX_NATS_SERVER", str(tmp_path / "nothing"))
    with pytest.raises(SetupError, match="is not a program"):
        find_nats_server()
    monkeypatch.delenv("DSPEX_NATS_SERVER")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("dspex_bus.server.sysconfig.get_path", lambda name: str(tmp_path))
    with pytest.raises(SetupError, match="pip install"):
        async with EmbeddedServer():
            pass


async def test_a_server_that_cannot_start_tells_why(tmp_path: Path) -> None:
    async with EmbeddedServer() as server:
        with pytest.raises(SetupError, match="in use already"):
            async with EmbeddedServer(port=server.port):
                pass
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="data directory"):
        async with EmbeddedServer(data_dir=tmp_path / "file" / "below"):
            pass


OWNER = """
import anyio, sys
from dspex_bus import EmbeddedServer

async def main():
    async with EmbeddedServer() as server:
        print(server.pid, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


async def test_it_does_not_outlive_an_owner_that_is_killed() -> None:
    owner = _owner()
    try:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        assert running(server)
        os.kill(owner.pid, signal.SIGKILL)
        await until_gone(server)
    finally:
        owner.kill()
        owner.communicate(timeout=10)


def _owner() -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True)
