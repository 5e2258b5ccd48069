"""What a conversation is made of."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import encode

MOST_TURNS = 100
MOST_BYTES = 256 * 1024


class Turn(Struct, frozen=True, kw_only=True):
    """What the step ``node`` of a session was asked and what it answered: ``fields`` are its inputs and outputs."""

    session: str
    node: str
    time_ms: int
    fields: dict[str, Any]

    @property
    def place(self) -> tuple[str, str]:
        """Which step it is of: a step has one turn, however often it is run."""
        return self.session, self.node


class Thread(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Turns, the oldest first. ``forgotten`` were there before them and had to make room."""

    turns: tuple[Turn, ...] = ()
    forgotten: int = 0

    def with_turn(self, turn: Turn) -> Thread:
        """The turn at the end, or in place of what the same step said before. The oldest go where it is too much.
        InvalidRequest for a turn that is too much by itself."""
        places = [one.place for one in self.turns]
        if turn.place in places:
            at = places.index(turn.place)
            turns = (*self.turns[:at], turn, *self.turns[at + 1 :])
        else:
            turns = (*self.turns, turn)
        sizes = [len(encode(one)) for one in turns]
        if len(encode(turn)) > MOST_BYTES:
            raise InvalidRequest(
                f"the turn has {len(encode(turn)):,} bytes; a conversation holds {MOST_BYTES:,}", code="turn_too_large"
            )
        first = max(0, len(turns) - MOST_TURNS)
        while sum(sizes[first:]) > MOST_BYTES:
            first += 1
        return Thread(turns=turns[first:], forgotten=self.forgotten + first)


class ThreadSummary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``name`` is the thread's, or the id of the session whose own it is."""

    name: str
    turns: int
    changed_ms: int
    tenant: str = ""
    of_session: bool = False
