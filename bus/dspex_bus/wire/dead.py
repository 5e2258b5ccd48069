"""Dead letters: messages that nobody could do anything with, kept with the reason and as they were."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from .definition import TOKEN
from .journal import ErrorInfo


class DeadLetter(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``sequence`` names it. ``subject`` is where the message was going, ``data`` its text as it was, None where that
    is not UTF-8 or is not asked for."""

    sequence: int
    time_ms: int
    pool: str
    session: str
    node: str
    attempt: int
    reason: ErrorInfo
    subject: str
    size: int
    data: str | None = None


class DeadListRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``letters.list``: the oldest first, those with a sequence above ``after``."""

    pool: Annotated[str, Meta(pattern=TOKEN)] | None = None
    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class DeadList(Struct, frozen=True, kw_only=True):
    letters: tuple[DeadLetter, ...]


class DeadRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For ``letters.show``, ``letters.drop`` and ``letters.retry``: the letter's session goes on from what failed, as a
    new session, and the letter is dropped."""

    sequence: Annotated[int, Meta(ge=1)]
