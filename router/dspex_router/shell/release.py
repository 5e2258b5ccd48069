"""What this router puts on the sessions it accepts, so that older ones can tell that they are not theirs."""

from __future__ import annotations

import importlib.metadata

from msgspec.structs import replace

from dspex_bus.wire import JOURNAL_FORMAT, SessionAccepted

RELEASE = importlib.metadata.version("dspex")


def stamped(accepted: SessionAccepted) -> SessionAccepted:
    return replace(accepted, format=JOURNAL_FORMAT, release=RELEASE)
