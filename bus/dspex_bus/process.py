"""What processes of ours that run for long have in common."""

from __future__ import annotations

import gc
from typing import Any

_NEW_OBJECTS = 20_000
"""The collector looks for cycles after so many new objects; its default of 700 is for short programs."""


def loop_options() -> dict[str, Any]:
    """``backend_options`` of anyio: uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return {}
    return {"loop_factory": uvloop.new_event_loop}


def settle() -> None:
    """Once everything is imported and ready: what is there now stays, so the garbage collector need not walk it again.
    With its defaults it takes a tenth of the time of a busy router."""
    gc.collect()
    gc.freeze()
    _, *older = gc.get_threshold()
    gc.set_threshold(_NEW_OBJECTS, *older)
