"""Servers with a configuration of a test's own, and a line to a server that can be cut, frozen or lied on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dspex_bus import EmbeddedServer


class ConfiguredServer(EmbeddedServer):
    """``more`` is added to its configuration."""

    def __init__(self, more: str) -> None:
        super().__init__()
        self._more = more

    def _configuration(self, store: Path) -> str:
        return f"{super()._configuration(store)}\n{self._more}"


class Link:
    """A TCP line to a server. ``url`` is where clients connect; ``made`` counts the connections."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []
        self._clients: list[asyncio.StreamWriter] = []
        self._passing = asyncio.Event()
        self._passing.set()
        self.made = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        try:
            there, onwards = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.close()
            return
        self._writers += [writer, onwards]
        self._clients = [writer]
        await asyncio.gather(self._pass(reader, onwards), self._pass(there, writer))

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._passing.wait()
                target.write(data)
                await target.drain()
        target.close()

    def cut(self) -> None:
        """Every connection ends, as when a cable is pulled out and the kernel notices."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self.thaw()

    def freeze(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._passing.clear()

    def thaw(self) -> None:
        self._passing.set()

    def say(self, data: bytes) -> None:
        """To the client, as if the server had said it."""
        for writer in self._clients:
            writer.write(data)
