"""Server-sent events from bytes as they come, cut wherever the network cut them. Pure."""

from __future__ import annotations

from typing import NamedTuple


class ServerEvent(NamedTuple):
    """``name`` is '' where the server gave none."""

    name: str
    data: bytes


class EventStream:
    """``feed`` what came; get the events that are whole. Comments and fields other than ``event`` and ``data`` are
    dropped, as the standard says."""

    def __init__(self, *, longest: int = 16 * 1024 * 1024) -> None:
        self._longest = longest
        self._held = b""
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Raises ValueError where a line has no end within ``longest`` bytes."""
        lines = (self._held + chunk).split(b"\n")
        self._held = lines.pop()
        if len(self._held) > self._longest:
            raise ValueError(f"a line of more than {self._longest} bytes")
        found: list[ServerEvent] = []
        for line in lines:
            self._line(line.removesuffix(b"\r"), found)
        return found

    def _line(self, line: bytes, found: list[ServerEvent]) -> None:
        if not line:
            if self._data:
                found.append(ServerEvent(self._name, b"\n".join(self._data)))
            self._name, self._data = "", []
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace")
