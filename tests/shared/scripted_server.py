"""A server that plays back what a provider once sent, byte for byte, and what can go wrong with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Piece = bytes | float
"""Bytes to send, or seconds to wait before the next."""


@dataclass
class Answer:
    """``pieces`` are sent as one chunk each; with ``cut`` the connection closes before the body's end."""

    pieces: Sequence[Piece]
    status: str = "200 OK"
    headers: Sequence[str] = ("Content-Type: application/json",)
    cut: bool = False


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ScriptedServer:
    """Answers with what ``script`` gives for each request (the number of the request, from 0, and what came)."""

    script: Callable[[int, Seen], Answer]
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    running: int = 0
    most: int = 0
    url: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = json.loads(await reader.readexactly(int(headers.get("content-length", 0))))
        self.seen.append(Seen(head[0].split()[1], headers, body))
        answer = self.script(len(self.seen) - 1, self.seen[-1])
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            return await self._answer(answer, writer)
        finally:
            self.running -= 1

    async def _answer(self, answer: Answer, writer: asyncio.StreamWriter) -> bool:
        lines = [f"HTTP/1.1 {answer.status}", *answer.headers, "Transfer-Encoding: chunked", "", ""]
        writer.write("\r\n".join(lines).encode())
        for piece in answer.pieces:
            if isinstance(piece, bytes):
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            else:
                await asyncio.sleep(piece)
        if not answer.cut:
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        return not answer.cut


@asynccontextmanager
async def playing(script: Callable[[int, Seen], Answer] | Sequence[Answer]) -> AsyncIterator[ScriptedServer]:
    """A server for a script, or for answers in order, the last one again and again."""
    if not callable(script):
        answers = list(script)
        server = ScriptedServer(lambda number, _: answers[min(number, len(answers) - 1)])
    else:
        server = ScriptedServer(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listening.close()
        for task in list(server._tasks):
            task.cancel()
        await asyncio.gather(*server._tasks, return_exceptions=True)
