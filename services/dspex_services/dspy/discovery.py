"""Which handlers there are on the bus, and what they take: from the workers' own announcements."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

from dspex_bus import Bus, Message, subjects
from dspex_bus.errors import DecodeError
from dspex_bus.signatures import parse_signature
from dspex_bus.wire import HandlerInfo, WorkerPresence, decode

_WAIT_S = 0.6
_FRESH_S = 3.5


class Directory:
    """Handlers by name with the pools that offer them, filled by a roll call whenever a name is not known."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, HandlerInfo, str]] = {}

    async def find(self, bus: Bus, name: str) -> tuple[HandlerInfo, str] | None:
        """What the handler says of itself and a pool that serves it; None where no live worker does."""
        if (found := self._fresh(name)) is not None:
            return found
        heard = asyncio.Event()

        async def on_presence(message: Message) -> None:
            self._take(message)
            if self._fresh(name) is not None:
                heard.set()

        async with bus.subscribed(subjects.PRESENCE, on_presence):
            await bus.publish(subjects.ROLL_CALL)
            with suppress(TimeoutError):
                async with asyncio.timeout(_WAIT_S):
                    await heard.wait()
        return self._fresh(name)

    async def under(self, bus: Bus, prefix: str) -> list[str]:
        """The handlers whose names begin so, sorted, of whoever answers a roll call."""

        async def on_presence(message: Message) -> None:
            self._take(message)

        async with bus.subscribed(subjects.PRESENCE, on_presence):
            await bus.publish(subjects.ROLL_CALL)
            await asyncio.sleep(_WAIT_S)
        return sorted(name for name in self._known if name.startswith(prefix) and self._fresh(name) is not None)

    def _fresh(self, name: str) -> tuple[HandlerInfo, str] | None:
        seen = self._known.get(name)
        return (seen[1], seen[2]) if seen is not None and time.monotonic() - seen[0] < _FRESH_S else None

    def _take(self, message: Message) -> None:
        try:
            said = decode(WorkerPresence, message.data, subject=message.subject)
        except DecodeError:
            return
        if said.state == "ready":
            for info in said.handlers:
                self._known[info.name] = (time.monotonic(), info, said.pool)


def arguments(info: HandlerInfo, constants: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The JSON Schema of each argument a caller gives, without those that ``constants`` settle."""
    if info.reads == "signature":
        signature = parse_signature(str(constants.get("signature", "")))
        return {field.name: {"type": "string"} if not field.typed else {} for field in signature.inputs}
    schema = _resolved(info.schema, info.schema)
    properties: dict[str, Any] = schema.get("properties", {})
    if not properties:
        return {name: {} for name in info.required if name not in constants}
    return {
        name: _resolved(part, info.schema)
        for name, part in properties.items()
        if name not in constants and (name in info.required or "default" in part)
    }


def _resolved(part: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """A schema with the reference it consists of followed; references further in are inlined too."""
    if "$ref" in part:
        part = root.get("$defs", {}).get(str(part["$ref"]).rsplit("/", 1)[-1], {})
    return {
        key: _resolved(value, root)
        if isinstance(value, dict) and key != "$defs"
        else [_resolved(item, root) if isinstance(item, dict) else item for item in value]
        if isinstance(value, list)
        else value
        for key, value in part.items()
        if key != "$defs"
    }
