"""The embedded server: found, started, kept, killed, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from dspex_bus import EmbeddedServer, Message, NatsBus, find_nats_server
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


async def test_two_servers_do_not_share_a_folder(tmp_path: Path) -> None:
    async with EmbeddedServer(data_dir=tmp_path) as server:
        with pytest.raises(SetupError, match="in use by another server"):
            async with EmbeddedServer(data_dir=tmp_path):
                pass
        await server.restart()
        async with NatsBus(server.url, name="a") as bus:
            await bus.prepare([KEPT], [])
    async with EmbeddedServer(data_dir=tmp_path):
        pass


async def test_it_comes_back_on_the_same_port_with_what_it_had() -> None:
    async with EmbeddedServer() as server:
        with pytest.raises(SetupError, match="runs already"):
            await server.start()
        port, pid = server.port, server.pid
        async with NatsBus(server.url, name="a") as bus:
            await bus.prepare([KEPT], [])
            await bus.store_and_wait("kept.a", b"1")
        await server.kill()
        assert server.pid is None
        await server.kill()
        await server.start()
        assert server.port == port
        assert server.pid != pid
        async with NatsBus(server.url, name="a") as bus:
            assert await bus.last("KEPT", "kept.a") is not None
        assert "Server is ready" in server.log
    await server.stop()
    with pytest.raises(SetupError, match="has not been started"):
        _ = server.log


@pytest.mark.filterwarnings("ignore:parameter 'timeout':DeprecationWarning")  # how nats-py calls aiohttp
async def test_a_websocket_port() -> None:
    async with EmbeddedServer(websocket_port=0) as server:
        assert server.websocket_url is not None
        got: list[bytes] = []
        done = anyio.Event()

        async def take(message: Message) -> None:
            got.append(message.data)
            if len(got) == 3:
                done.set()

        async with NatsBus(server.websocket_url, name="web") as web, NatsBus(server.url, name="plain") as plain:
            await web.prepare([KEPT], [])
            assert (await web.store_and_wait("kept.a", b"1", once=True)).created
            await web.subscribe("said", take)
            for number in range(3):
                await plain.publish("said", b"%d" % number)
            with anyio.fail_after(5):
                await done.wait()
            assert got == [b"0", b"1", b"2"]
    async with EmbeddedServer() as server:
        assert server.websocket_url is None


async def test_a_binary_of_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "nats-server-of-mine"
    binary.symlink_to(find_nats_server())
    monkeypatch.setenv("DSPEX_NATS_SERVER", str(binary))
    async with EmbeddedServer() as server, NatsBus(server.url, name="a") as bus:
        assert bus.connected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "cannot be run"),
        ("#!/bin/sh\necho what a server >&2; exit 3", "what a server"),
        ("#!/bin/sh\nexec sleep 60", "was not ready within"),
    ],
)
async def test_a_binary_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str, told: str) -> None:
    binary = tmp_path / "nats-server"
    binary.write_text(text)
    binary.chmod(0o755)
    monkeypatch.setenv("DSPEX_NATS_SERVER", str(binary))
    server = EmbeddedServer()
    with pytest.raises(SetupError, match=told):
        await server.start(timeout_s=0.5)
    assert server.pid is None


async def test_one_that_does_not_stop_when_asked_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    binary = tmp_path / "stubborn"
    binary.write_text(
        f"#!{sys.executable}\nimport signal, sys, subprocess, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    )
    binary.chmod(0o755)
    monkeypatch.setenv("DSPEX_NATS_SERVER", str(binary))
    server = EmbeddedServer()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:

            async def start() -> None:
                with pytest.raises(SetupError):
                    await server.start(timeout_s=30)

            group.start_soon(start)
            while server.pid is None or "up" not in server.log:
                await anyio.sleep(0.01)
            pid = server.pid
            await server._end(signal.SIGTERM, 0.2)
    assert not running(pid)


async def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "dspex.lock").mkdir()
    with pytest.raises(SetupError, match="cannot be used"):
        async with EmbeddedServer(data_dir=tmp_path):
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
