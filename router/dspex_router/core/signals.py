"""Signals and the waits that take them: the oldest signal of a name goes to the oldest wait for it."""

from __future__ import annotations

from dspex_bus.wire import SignalReceived, WaitNode

from .state import Session, StepRun


def take(session: Session, run: StepRun) -> bool:
    """Let a wait have the oldest signal of its name, if there is one that nobody has."""
    assert isinstance(run.node, WaitNode)
    for place, signal in enumerate(session.signals):
        if signal.name == run.node.signal:
            run.taken = session.signals.pop(place)
            return True
    return False


def receive(session: Session, signal: SignalReceived) -> StepRun | None:
    """Keep a signal, and let the wait that was there first have it; that wait."""
    session.signals.append(signal)
    for run in session.waits.values():
        if run.taken is None and not run.abandoned and take(session, run):
            return run
    return None


def give_back(session: Session, run: StepRun) -> None:
    """The wait ended without its signal: the next one may have it."""
    assert run.taken is not None
    session.signals.insert(0, run.taken)
    run.taken = None


def wanted(session: Session) -> tuple[str, ...]:
    """The names that open waits have not got yet, each once."""
    nodes = [run.node for run in session.waits.values() if run.taken is None]
    return tuple(dict.fromkeys(node.signal for node in nodes if isinstance(node, WaitNode)))
