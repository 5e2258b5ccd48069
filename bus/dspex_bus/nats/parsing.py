"""The server's side of the wire protocol: bytes to messages.

In place of nats-py's parser, which costs several times as much for each message; what is no message is still its.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nats.errors import ProtocolError

from ..bus import Message
from .headers import LazyHeaders

Deliver = Callable[[Message], None]

_END = b"\r\n"
_MSG, _HMSG = b"MSG ", b"HMSG "
_LONGEST_LINE = 1024 * 1024
"""``INFO`` of a large cluster is long; a line without an end in that much is not the protocol."""


class Parser:
    """``routes`` are the subscriptions by their ids. ``client`` answers pings and hears of errors and news."""

    def __init__(self, client: Any, routes: dict[bytes, Deliver]) -> None:
        self._client = client
        self._routes = routes
        self.reset()

    def reset(self) -> None:
        self._held: list[bytes] = []
        self._missing = 0

    async def parse(self, data: bytes) -> None:
        """Hand over every message that is whole with ``data``, see to what is no message, and keep the rest."""
        for line in self.feed(data):
            await self._control(line)

    def feed(self, data: bytes) -> list[bytes]:
        """Like :meth:`parse`, but for the lines that are no messages: those are returned."""
        self._held.append(data)
        self._missing -= len(data)
        if self._missing > 0:
            return []
        buffer = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        others: list[bytes] = []
        used = self._consume(buffer, others)
        self._held = [buffer[used:]] if used < len(buffer) else []
        return others

    def _consume(self, buffer: bytes, others: list[bytes]) -> int:
        """How much of ``buffer`` was whole; ``_missing`` is then what the next message lacks, 1 where that is not
        known."""
        at, size = 0, len(buffer)
        while (end := buffer.find(_END, at)) >= 0:
            if buffer.startswith(_MSG, at):
                head, headed = 0, False
                parts = buffer[at + 4 : end].split(b" ")
            elif buffer.startswith(_HMSG, at):
                headed = True
                parts = buffer[at + 5 : end].split(b" ")
                head = int(parts.pop(-2))
            else:
                others.append(buffer[at:end])
                at = end + 2
                continue
            start = end + 2
            stop = start + int(parts[-1])
            if stop + 2 > size:
                self._missing = stop + 2 - size
                return at
            deliver = self._routes.get(parts[1])
            if deliver is not None:
                headers = LazyHeaders(buffer[start : start + head]) if headed else None
                reply = parts[2].decode("utf-8", "replace") if len(parts) == 4 else ""
                subject = parts[0].decode("utf-8", "replace")
                deliver(Message(subject, buffer[start + head : stop], reply, headers))
            at = stop + 2
        if size - at > _LONGEST_LINE:
            raise ProtocolError
        self._missing = 1
        return at

    async def _control(self, line: bytes) -> None:
        verb, _, rest = line.partition(b" ")
        match verb.upper():
            case b"PING":
                await self._client._process_ping()
            case b"PONG":
                await self._client._process_pong()
            case b"INFO":
                await self._client._process_info(json.loads(rest))
            case b"-ERR":
                await self._client._process_err(rest.strip(b" '").decode("utf-8", "replace").lower())
            case b"+OK":
                pass
            case _:
                raise ProtocolError
