"""Three nats-servers that keep everything three times, on free ports of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio

from dspex_bus.server import find_nats_server

from .parts import die_with_us

READY_S = 30


class Node:
    def __init__(self, number: int, folder: Path, port: int, route: int, routes: list[int]) -> None:
        self.name = f"n{number}"
        self.url = f"nats://127.0.0.1:{port}"
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._file = folder / f"{self.name}.conf"
        self._log = folder / f"{self.name}.log"
        store = json.dumps(str(folder / self.name))
        urls = ", ".join(f'"nats://127.0.0.1:{other}"' for other in routes if other != route)
        self._file.write_text(
            f'server_name: {self.name}\nhost: "127.0.0.1"\nport: {port}\njetstream {{ store_dir: {store} }}\n'
            f'cluster {{ name: c, listen: "127.0.0.1:{route}", routes: [{urls}] }}\n'
        )

    def start(self) -> None:
        with self._log.open("ab") as log:
            command = [find_nats_server(), "--config", str(self._file)]
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, preexec_fn=partial(die_with_us, os.getpid())
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)


class Cluster:
    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        return ",".join(node.url for node in self.nodes)

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Ready when a majority has chosen a leader."""
    ports = free_ports(6)
    nodes = [Node(number, folder, ports[number], ports[3 + number], ports[3:]) for number in range(3)]
    try:
        for node in nodes:
            node.start()
        with anyio.fail_after(READY_S):
            while not await _has_leader(nodes[0].port):
                await anyio.sleep(0.05)
        yield Cluster(nodes)
    finally:
        for node in nodes:
            node.kill()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


async def _has_leader(port: int) -> bool:
    """Whether JetStream answers."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        writer.write(b"CONNECT {}\r\nSUB _INBOX.a 1\r\nPUB $JS.API.INFO _INBOX.a 0\r\n\r\nPING\r\n")
        with anyio.move_on_after(1):
            while line := await reader.readline():
                if b"jetstream.api.v1.account_info_response" in line:
                    return b'"error"' not in line
        return False
    finally:
        writer.close()
