"""What is said while a model writes: on ``dspex.v1.token.<session>.<node>.<attempt>``, not stored.

Each attempt counts its messages from 0, so that whoever listens sees a gap. ``started`` is the first and ``ended`` the
last. A worker that is killed says no ``ended``; another then runs the attempt, and ``started`` comes again: what was
said before counts no more.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class TokensStarted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="started"):
    sequence: int
    worker: str = ""


class TokenPiece(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="piece"):
    """More text of an output ``field`` ('' for text that belongs to none), as the model writes it. ``call`` counts the
    attempt's calls of a model, from 0: a field that comes again with a later call replaces what was there.
    ``predictor`` names the one that writes in a module that has several."""

    sequence: int
    field: str
    text: str
    call: int = 0
    predictor: str = ""


class TokenStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="status"):
    """What goes on besides, such as a tool that is used."""

    sequence: int
    text: str


class TokensEnded(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="ended"):
    """Always the last. ``interrupted``: the worker left, and the attempt is run anew if its run is stored. ``code`` is
    the error's, where there is one."""

    sequence: int
    status: Literal["succeeded", "failed", "timed_out", "cancelled", "lost", "interrupted"]
    code: str = ""


TokenMessage = TokensStarted | TokenPiece | TokenStatus | TokensEnded
