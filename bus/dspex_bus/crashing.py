"""Places where a process can be told to die, as by ``kill -9``: before and after everything it publishes and acks.

``DSPEX_CRASH_AT=store.journal.step.before:3`` has it die when it is about to store a step's outcome for the third time.
``DSPEX_CRASH_AT=?`` has it name each place on standard error when it first comes there. A place is what is done
(``store``, ``say``, ``ack``, ``purge``), what to, and ``before`` or ``after``: after a store is when the server has
answered it, after what has no answer is when the server has seen it.

Read once. Where it is not set, every place is a call of an empty function.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import NoReturn

CRASH_AT = "DSPEX_CRASH_AT"

Place = Callable[[str, str], None]
Sent = Callable[[str, str, Callable[[], Awaitable[None]]], None]


def kind(subject: str) -> str:
    """What a subject is for, without its ids."""
    parts = subject.split(".")
    match parts:
        case ["dspex", _, "journal", _, _, what, *_]:
            return f"journal.{what}"
        case ["dspex", _, family, *_]:
            return family
        case ["$KV", bucket, *_]:
            return bucket
    return "answer" if parts[0] == "_INBOX" else "other"


class _Crash:
    """``die`` is called at the place, and must not return."""

    def __init__(self, told: str, die: Callable[[], NoReturn]) -> None:
        self._place, _, times = told.partition(":")
        self._left = int(times or 1)
        self._die = die
        self._named: set[str] = set()
        self._last: set[asyncio.Task[None]] = set()

    def before(self, verb: str, subject: str) -> None:
        if self._is_it(f"{verb}.{kind(subject)}.before"):
            self._die()

    def after(self, verb: str, subject: str) -> None:
        if self._is_it(f"{verb}.{kind(subject)}.after"):
            self._die()

    def sent(self, verb: str, subject: str, seen: Callable[[], Awaitable[None]]) -> None:
        """For what has no answer: ``seen`` returns when the server has seen it."""
        if self._is_it(f"{verb}.{kind(subject)}.after"):
            self._last.add(asyncio.get_running_loop().create_task(self._once(seen)))

    async def _once(self, seen: Callable[[], Awaitable[None]]) -> None:
        await seen()
        self._die()

    def _is_it(self, place: str) -> bool:
        if self._place == "?" and place not in self._named:
            self._named.add(place)
            print(f"crash place {place}", file=sys.stderr, flush=True)
        if place == self._place:
            self._left -= 1
        return place == self._place and self._left == 0


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL has no return")


def _nothing(*_: object) -> None:
    pass


def places(told: str | None, die: Callable[[], NoReturn] = _die) -> tuple[Place, Place, Sent]:
    """``before``, ``after`` and ``sent``, as the environment told."""
    if not told:
        return _nothing, _nothing, _nothing
    crash = _Crash(told, die)
    return crash.before, crash.after, crash.sent


before, after, sent = places(os.environ.get(CRASH_AT))
