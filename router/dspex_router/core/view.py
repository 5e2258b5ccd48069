"""A session as clients see it."""

from __future__ import annotations

from dspex_bus.wire import SessionView

from .state import Session


def view(state: Session) -> SessionView:
    """The session with a report for every node of its plan, in the order written."""
    raise NotImplementedError
