"""Headers on the wire, both ways."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .._headers import EXPECTED_LAST
from ..bus import Headers

_DROPPED = frozenset({EXPECTED_LAST})
_BREAKS = re.compile(r"[\r\n]+")


def header_block(headers: Headers | None) -> bytes:
    """The headers as they travel, b"" where there are none. A line break in one would begin a header of its own: it
    becomes a blank."""
    if not headers:
        return b""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        lines = "".join([f"{_one_line(name)}: {_one_line(value)}\r\n" for name, value in headers.items()])
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def with_header(block: bytes, name: str, value: str) -> bytes:
    """A block with one more header."""
    return b"%b%b: %b\r\n\r\n" % (block[:-2], name.encode(), value.encode())


def _one_line(text: str) -> str:
    return _BREAKS.sub(" ", text)


class LazyHeaders(Mapping[str, str]):
    """A message's headers, parsed at the first look: on the hot path nobody looks. What says how a message was to be
    stored is left out, lest it be stored on with it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._parsed: dict[str, str] | None = None

    @property
    def status(self) -> str:
        """The inline status of a message from the server itself, such as ``503``; '' in all others."""
        return self._raw[9:12].decode("ascii", "replace") if self._raw[8:9] == b" " else ""

    @property
    def description(self) -> str:
        return self._raw.split(b"\r\n", 1)[0][12:].strip().decode("utf-8", "replace")

    def get(self, name: str, default: Any = None, /) -> Any:
        """Of those that nobody has looked at yet this one alone is."""
        if self._parsed is not None:
            return self._parsed.get(name, default)
        key = b"\r\n%b:" % name.encode()
        at = self._raw.rfind(key)
        if at < 0 or name in _DROPPED:
            return default
        start = at + len(key)
        return self._raw[start : self._raw.find(b"\r\n", start)].strip().decode("utf-8", "replace")

    def _all(self) -> dict[str, str]:
        if self._parsed is None:
            lines = (line.partition(b":") for line in self._raw.split(b"\r\n")[1:] if line)
            parsed = {
                name.decode("utf-8", "replace"): value.strip().decode("utf-8", "replace") for name, _, value in lines
            }
            self._parsed = {name: value for name, value in parsed.items() if name not in _DROPPED}
        return self._parsed

    def __getitem__(self, name: str) -> str:
        return self._all()[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.encode() in self._raw and name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"LazyHeaders({self._all()!r})"
