"""Journals of newer releases: refused by what they say of themselves, rather than misread."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ..errors import NewerJournal
from .journal import JOURNAL_FORMAT, SessionAccepted


class _Head(Struct, frozen=True):
    """What can be read of an ``accepted`` whatever else a release puts into it."""

    session: str = ""
    format: int = 1
    release: str = ""


_head = msgspec.json.Decoder(_Head)


def refuse_newer(accepted: SessionAccepted | _Head) -> None:
    """Raises NewerJournal where the session takes somebody who knows more than this release."""
    if accepted.format <= JOURNAL_FORMAT:
        return
    release = f"release {accepted.release}" if accepted.release else "a newer release"
    raise NewerJournal(
        f"session {accepted.session} was started by {release}, whose journals (format {accepted.format}) are newer than"
        f" what is known here (format {JOURNAL_FORMAT}): it takes {release}, or a later one",
        details={"session": accepted.session, "format": accepted.format, "release": accepted.release},
    )


def refuse_newer_unread(data: bytes) -> None:
    """The same for an ``accepted`` that cannot be decoded: what is new in it may be why."""
    try:
        head = _head.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return
    refuse_newer(head)
