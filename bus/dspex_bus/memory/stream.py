"""A stream in memory: what was stored, in order, and who follows it."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from ..bus import Headers, StoredMessage
from ..streams import StreamSpec
from .subject import matches


class Taken(Exception):
    """The slot holds a message already, or another than the one expected."""


class Stream:
    def __init__(self, spec: StreamSpec) -> None:
        self.spec = spec
        self.last_sequence = 0
        self.followers: list[Callable[[StoredMessage], None]] = []
        self._messages: dict[int, StoredMessage] = {}
        self._by_subject: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def size(self) -> int:
        return sum(len(message.data) for message in self._messages.values())

    def covers(self, subject: str) -> bool:
        return any(matches(pattern, subject) for pattern in self.spec.subjects)

    def store(self, subject: str, data: bytes, headers: Headers | None) -> StoredMessage:
        self.last_sequence += 1
        message = StoredMessage(subject, data, headers, self.last_sequence, time.time_ns() // 1_000_000)
        self._messages[message.sequence] = message
        self._by_subject.setdefault(subject, []).append(message.sequence)
        for follow in list(self.followers):
            follow(message)
        return message

    def last_of(self, subject: str) -> int:
        """The sequence of the newest message on a subject, 0 where there is none."""
        sequences = self._by_subject.get(subject)
        return sequences[-1] if sequences else 0

    def get(self, sequence: int) -> StoredMessage | None:
        return self._messages.get(sequence)

    def select(self, pattern: str, after: int = 0) -> Iterator[StoredMessage]:
        if pattern in self._by_subject:
            sequences = self._by_subject[pattern]
            for sequence in sequences[bisect_right(sequences, after) :]:
                yield self._messages[sequence]
            return
        for message in list(self._messages.values()):
            if message.sequence > after and matches(pattern, message.subject):
                yield message

    def subjects(self, pattern: str) -> list[str]:
        return sorted(subject for subject in self._by_subject if matches(pattern, subject))

    def remove(self, sequence: int) -> None:
        message = self._messages.pop(sequence, None)
        if message is not None:
            sequences = self._by_subject[message.subject]
            sequences.remove(sequence)
            if not sequences:
                del self._by_subject[message.subject]

    def purge(self, pattern: str, before: int | None = None) -> int:
        gone = [message.sequence for message in self.select(pattern) if before is None or message.sequence < before]
        for sequence in gone:
            self.remove(sequence)
        return len(gone)


def republished(spec: StreamSpec, message: StoredMessage, before: int) -> tuple[str, dict[str, str]] | None:
    """The subject and headers under which the server says what it stored; None where it does not."""
    if spec.republish is None:
        return None
    source, destination = (pattern.removesuffix(">") for pattern in spec.republish)
    if not message.subject.startswith(source):
        return None
    stamp = datetime.fromtimestamp(message.time_ms / 1000, UTC).isoformat(timespec="milliseconds")
    headers = {
        **(message.headers or {}),
        "Nats-Stream": spec.name,
        "Nats-Subject": message.subject,
        "Nats-Sequence": str(message.sequence),
        "Nats-Time-Stamp": stamp.replace("+00:00", "Z"),
        "Nats-Last-Sequence": str(before),
    }
    return destination + message.subject.removeprefix(source), headers
