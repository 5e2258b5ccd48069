"""What a stream's leader knows. Each replica answers direct gets, also one that was away and has not caught up: that
there is nothing, or nothing more, only the leader can say."""

from __future__ import annotations

import base64
import time
from typing import Any

from ..bus import StoredMessage
from ..errors import NotFound
from .headers import LazyHeaders
from .jetstream import JetStream, milliseconds

_NO_MESSAGE = 10037
_KNOWN_S = 60.0
"""A stream may be given replicas while we use it."""


class Leaders:
    def __init__(self, jetstream: JetStream) -> None:
        self._jetstream = jetstream
        self._replicated: dict[str, tuple[bool, float]] = {}

    async def asked(self, stream: str, ask: dict[str, Any]) -> StoredMessage | None:
        """What the leader has; None where that is nothing, or where nobody else can have answered: the stream has one
        replica."""
        if not await self._is_replicated(stream):
            return None
        try:
            answer = await self._jetstream.ask(f"STREAM.MSG.GET.{stream}", ask)
        except NotFound as error:
            if error.details.get("err_code") == _NO_MESSAGE:
                return None
            raise
        return _message(answer["message"])

    async def _is_replicated(self, stream: str) -> bool:
        found, until = self._replicated.get(stream, (False, 0.0))
        if time.monotonic() >= until:
            config = (await self._jetstream.ask(f"STREAM.INFO.{stream}"))["config"]
            found = config["num_replicas"] > 1
            self._replicated[stream] = found, time.monotonic() + _KNOWN_S
        return found


def _message(found: dict[str, Any]) -> StoredMessage:
    headers = LazyHeaders(base64.b64decode(found["hdrs"])) if found.get("hdrs") else None
    data = base64.b64decode(found.get("data", ""))
    return StoredMessage(found["subject"], data, headers, found["seq"], milliseconds(found["time"]))
