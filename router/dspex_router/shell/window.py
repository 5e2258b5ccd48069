"""What is behind a partition's checkpoint, told from the journal alone."""

from __future__ import annotations

from dspex_bus import StoredMessage, subjects


class Window:
    """What is behind a checkpoint: of each session its first event, and its end. Those that ended before ``since_ms``
    are nobody's business any more."""

    def __init__(self, since_ms: int) -> None:
        self._since_ms = since_ms
        self._first: dict[str, StoredMessage] = {}
        self._ends: dict[str, StoredMessage] = {}

    def add(self, message: StoredMessage) -> None:
        session = subjects.object_owner(message.subject)
        if subjects.journal_kind(message.subject) != "end":
            self._first.setdefault(session, message)
        elif message.time_ms >= self._since_ms:
            self._ends[session] = message
        else:
            self._first.pop(session, None)

    def open(self) -> list[tuple[str, StoredMessage]]:
        return [(session, message) for session, message in self._first.items() if session not in self._ends]

    def over(self) -> list[tuple[StoredMessage, StoredMessage]]:
        """How those began and ended of which nothing but this tells. The others were in the index, and are for as long
        as something is to be done about them."""
        both = [(self._first[session], end) for session, end in self._ends.items() if session in self._first]
        return [(first, end) for first, end in both if subjects.journal_kind(first.subject) == "accepted"]
