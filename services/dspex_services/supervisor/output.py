"""What a worker prints: passed on line by line, the last lines kept for when it has ended."""

from __future__ import annotations

import codecs
import sys
from collections import deque
from collections.abc import AsyncIterator

_KEPT = 20
_LONGEST = 16_384
"""Characters of a line; a longer one is passed on in pieces."""


class Output:
    """To our standard error, each line with the pool's name before it: a pipe nobody reads would block the worker."""

    def __init__(self, pool: str) -> None:
        self.last: deque[str] = deque(maxlen=_KEPT)
        self._pool = pool

    async def pass_on(self, chunks: AsyncIterator[bytes]) -> None:
        decoder, rest = codecs.getincrementaldecoder("utf-8")(errors="replace"), ""
        try:
            async for chunk in chunks:
                *lines, rest = (rest + decoder.decode(chunk)).split("\n")
                if len(rest) > _LONGEST:
                    lines, rest = [*lines, rest], ""
                self._say(lines)
        finally:
            self._say([rest])

    def say(self, line: str) -> None:
        """What it cannot say itself any more."""
        self._say([line])

    def _say(self, lines: list[str]) -> None:
        for line in filter(None, lines):
            self.last.append(line)
            print(f"[{self._pool}] {line}", file=sys.stderr)

    @property
    def reason(self) -> str:
        """The error a worker gave before it ended, '' where it gave none."""
        return next((line.removeprefix("error: ") for line in reversed(self.last) if line.startswith("error: ")), "")
