"""What is handed out to be asked more of."""

from __future__ import annotations


class Handle:
    """An object with methods to await: a blocking client hands it out as one whose methods block."""

    __slots__ = ()
