"""The router's own errors."""

from __future__ import annotations

from dspex_bus.errors import DspexError


class BrokenJournal(DspexError):
    """A journal that no router can have written; the session is left alone rather than guessed at."""

    code = "broken_journal"
