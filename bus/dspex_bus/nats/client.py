"""nats-py's client, kept to one connection: it shakes hands, and never reconnects by itself. Messages in and out are
ours: they cost a fraction of what nats-py's take.

A connection is over when its read loop ends, for whatever reason: end of file, a stale link, an error the server sends,
or an exception in the loop, which nats-py itself would leave unnoticed.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.errors import ConnectionClosedError

from .parsing import Deliver, Parser

logger = logging.getLogger("dspex.bus")

# As the parser hands it on: in small letters.
_REFUSED = re.compile(r'permissions violation for (publish|subscription)(?: with reply)? (?:to|of) "(.+?)"')
_PIECE_BYTES = 64 * 1024
"""So much is not kept until the end of the turn: whoever is to read it can begin. Publishers wait for a socket that is
full."""
_LATER_S = 0.002


class OneConnection(Client):  # type: ignore[misc]
    """What is published in one turn of the event loop is written at its end, in one piece.

    ``refused`` is told of every permission violation: ``publish`` or ``subscription``, and the subject in small
    letters.
    """

    def __init__(self, refused: Callable[[str, str], None]) -> None:
        super().__init__()
        self._refused = refused
        self._pending: list[bytes] = []
        self._piece_bytes = -1
        self._routes: dict[bytes, Deliver] = {}
        self._ps = Parser(self, self._routes)
        self._ids = 0
        self._writing_soon = self._writing_later = False

    def put(self, subject: str, data: bytes, reply: str, headers: bytes, *, urgent: bool = True) -> bool:
        """``headers`` are as they travel. What is not ``urgent`` goes with the next that is, or a little later by
        itself. Whether more should wait until it is :meth:`drained`. ConnectionClosedError where this connection is
        over."""
        if self._status != Client.CONNECTED:
            raise ConnectionClosedError
        if headers:
            line = f"HPUB {subject} {reply} {len(headers)} {len(headers) + len(data)}\r\n"
        else:
            line = f"PUB {subject} {reply} {len(data)}\r\n"
        self._pending += (line.encode(), headers, data, b"\r\n")
        self._pending_data_size += len(headers) + len(data)
        if urgent and not self._writing_soon:
            self._writing_soon = True
            asyncio.get_running_loop().call_soon(self._write)
        elif not urgent and not self._writing_later:
            self._writing_later = True
            asyncio.get_running_loop().call_later(_LATER_S, self._write_late)
        return self._pending_data_size > self._piece_bytes

    async def _read_loop(self) -> None:
        """nats-py's, without the messages: they go from the socket to the parser, with no stream in between and no
        task to be woken."""
        if isinstance(self._transport, TcpTransport):
            self._piece_bytes = _PIECE_BYTES
            self._shorten(self._transport._io_reader)
        await super()._read_loop()

    def _shorten(self, reader: Any) -> None:
        parser, hand_on = Parser(self, self._routes), reader.feed_data

        def feed(data: bytes) -> None:
            try:
                others = parser.feed(data)
            except Exception as error:  # ends the read loop, and so the connection
                reader.set_exception(error)
            else:
                for line in others:
                    hand_on(line + b"\r\n")

        there = bytes(reader._buffer)
        reader._buffer.clear()
        reader.feed_data = feed
        feed(there)

    async def listen(self, subject: str, queue: str, deliver: Deliver) -> bytes:
        """Subscribe; the subscription's id. ``deliver`` is called from the read loop: it must be short and raise
        nothing."""
        self._ids += 1
        id = b"%d" % self._ids
        self._routes[id] = deliver
        await self._send_command(f"SUB {subject} {queue} {self._ids}\r\n".encode())
        await self._flush_pending()
        return id

    async def leave(self, id: bytes, timeout_s: float) -> None:
        """Unsubscribe, and come back when what was under way has been delivered."""
        try:
            with suppress(Exception):
                await self._send_command(b"UNSUB %b\r\n" % id)
                await self.flush(timeout_s)
        finally:
            self._routes.pop(id, None)

    def _write(self) -> None:
        self._writing_soon = False
        if self._pending and self._transport:
            data, self._pending, self._pending_data_size = b"".join(self._pending), [], 0
            self._transport.write(data)

    def _write_late(self) -> None:
        self._writing_later = False
        self._write()

    async def drained(self) -> None:
        """What was written when a connection ended may have arrived or not: the end itself is noticed by reading."""
        self._write()
        with suppress(OSError):
            await self._transport.drain()

    async def _flush_pending(self, force_flush: bool = False) -> None:
        if isinstance(self._transport, TcpTransport):
            self._write()
        elif self._transport:
            await self.drained()

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Behind what is pending, so that its answer means that all of that has arrived."""
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(b"PING\r\n")
        await self._flush_pending()

    async def _process_pong(self) -> None:
        """Unlike nats-py's own, it survives an answer that comes after its flush was given up."""
        if self._pongs and not (waiting := self._pongs.pop(0)).done():
            waiting.set_result(True)
        self._pings_outstanding = 0

    async def _process_err(self, err_msg: str) -> None:
        if refused := _REFUSED.search(err_msg):
            self._refused(refused[1], refused[2])
        else:
            await super()._process_err(err_msg)

    async def over(self) -> None:
        """Returns when nothing more will come through this connection, or nothing would tell us that it is stale."""
        watched = {task for task in (self._reading_task, self._ping_interval_task) if task is not None}
        ended, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            if not task.cancelled() and (error := task.exception()):
                logger.info("a loop of the connection ended: %r", error)

    async def abandon(self, timeout_s: float = 1.0) -> None:
        """Close for good, flushing what can be flushed; also where the other side answers nothing any more."""
        with suppress(Exception):
            async with asyncio.timeout(timeout_s):
                await self.close()
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None:
                task.cancel()
        if self._transport:
            self._transport.close()
