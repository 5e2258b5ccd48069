"""What a worker holds, written where its supervisor can read it once the worker is dead.

The file is shared memory: a claim costs a copy of some hundred bytes and no message. It is laid out as records of
RECORD bytes: a length, 0 where the record is free, and the receipt of a delivery. The length is written last and
cleared first, so a worker killed at any moment leaves no half of a receipt.

Direct calls that are run, or wait for a slot, are told of in the same way: whoever asked waits for an answer, and
perhaps for tokens.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Iterator

from .config import WAITING

RECORD = 512
_LENGTH = struct.Struct("<H")
_RUNNING = 0x8000
"""This bit of the length says that the task is run, and not only held."""
_CALL = 0x4000
"""This one that it is no receipt, but a direct call: where its answer and its tokens go."""
_FLAGS = _RUNNING | _CALL
_MARGIN = 64


def make_file(slots: int) -> int:
    """A descriptor of a new, nameless file with room for a worker's claims."""
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("dspex-claims")
    else:
        with tempfile.TemporaryFile() as temporary:
            file = os.dup(temporary.fileno())
    # A task is claimed until its outcome is stored, and by then its slot has the next.
    os.ftruncate(file, RECORD * (3 * slots + WAITING + _MARGIN))
    return file


class Claims:
    """The worker's side and the supervisor's. When the file is full, a delivery goes unclaimed, and is noticed missing
    only after the ack wait."""

    def __init__(self, memory: mmap.mmap | bytearray) -> None:
        self._memory = memory
        self._free = [offset for offset in range(0, len(memory), RECORD) if not self._length(offset)]
        self._held: dict[str, int] = {}

    @classmethod
    def nowhere(cls) -> Claims:
        """For a worker without a supervisor."""
        return cls(bytearray())

    @classmethod
    def of(cls, file: int) -> Claims:
        return cls(mmap.mmap(file, 0))

    def add(self, receipt: str) -> None:
        self._write(receipt, 0)

    def answer(self, reply: str, tokens: str) -> str:
        """A direct call has come; ``tokens`` is '' where nobody asked for them. The text to remove."""
        said = f"{reply} {tokens}"
        self._write(said, _CALL)
        return said

    def _write(self, text: str, flag: int) -> None:
        data = text.encode()
        if text in self._held or not self._free or len(data) > RECORD - _LENGTH.size:
            return
        offset = self._held[text] = self._free.pop()
        start = offset + _LENGTH.size
        self._memory[start : start + len(data)] = data
        _LENGTH.pack_into(self._memory, offset, len(data) | flag)

    def run(self, receipt: str) -> None:
        """From now on it is run."""
        offset = self._held.get(receipt)
        if offset is not None:
            _LENGTH.pack_into(self._memory, offset, self._length(offset) | _RUNNING)

    def remove(self, receipt: str) -> None:
        offset = self._held.pop(receipt, None)
        if offset is not None:
            _LENGTH.pack_into(self._memory, offset, 0)
            self._free.append(offset)

    def read(self) -> list[str]:
        """The receipts that are written."""
        return [receipt for receipt, flags in self._records() if not flags & _CALL]

    def running(self) -> list[str]:
        """Those whose tasks are run."""
        return [receipt for receipt, flags in self._records() if flags & _RUNNING]

    def calls(self) -> list[tuple[str, str]]:
        """Where the answers of the direct calls go that are here, and their tokens."""
        found = (text.partition(" ") for text, flags in self._records() if flags & _CALL)
        return [(reply, tokens) for reply, _, tokens in found]

    @property
    def shared(self) -> bool:
        """Whether there is a supervisor that reads them."""
        return len(self._memory) > 0

    def _records(self) -> Iterator[tuple[str, int]]:
        for offset in range(0, len(self._memory), RECORD):
            length, start = self._length(offset), offset + _LENGTH.size
            if length:
                text = bytes(self._memory[start : start + (length & ~_FLAGS)])
                yield text.decode(), length & _FLAGS

    def close(self) -> None:
        if isinstance(self._memory, mmap.mmap):
            self._memory.close()

    def _length(self, offset: int) -> int:
        return int(_LENGTH.unpack_from(self._memory, offset)[0])
