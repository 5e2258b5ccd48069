"""What is kept in buckets may be of a newer release, or of nobody's: that is in nobody else's way."""

from __future__ import annotations

import logging
from typing import TypeVar

from dspex_bus.buckets import Entry
from dspex_bus.errors import DecodeError
from dspex_bus.wire import decode

log = logging.getLogger(__name__)

T = TypeVar("T")


def readable(kind: type[T], key: str, entry: Entry | None) -> T | None:
    """None where there is nothing, or nothing that can be read here; the log tells of that."""
    if entry is None:
        return None
    try:
        return decode(kind, entry.value, subject=key)
    except DecodeError as error:
        log.error("%s is passed over: %s", key, error.message)
        return None
