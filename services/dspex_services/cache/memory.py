"""The level in the process's memory: the most recently used, up to a size."""

from __future__ import annotations

import threading
from collections import OrderedDict

from .entry import Entry

_OVERHEAD = 256
"""Bytes of an entry besides its value, about."""


class Memory:
    """Used from any thread."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: str, entry: Entry) -> None:
        size = _size(entry)
        with self._lock:
            self._drop(key)
            if size > self._most:
                return
            self._entries[key] = entry
            self.bytes += size
            while self.bytes > self._most:
                self._drop(next(iter(self._entries)))

    def clear(self, kind: str = "") -> None:
        """Every entry, or those of one kind."""
        with self._lock:
            for key in [key for key in self._entries if not kind or key.startswith(f"{kind}.")]:
                self._drop(key)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= _size(entry)


def _size(entry: Entry) -> int:
    return len(entry.value) + _OVERHEAD
