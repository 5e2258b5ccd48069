"""What of a session another one need not do again."""

from __future__ import annotations

from typing import Any

from dspex_bus.wire import Rounds, StepSucceeded

from .state import LoopRun, MapRun, Run, Session, StepRun


def keeping(state: Session) -> tuple[dict[str, dict[str, Any]], dict[str, Rounds]]:
    """The ``kept`` and ``rounds`` of a session that goes on from here. What ran for an item or in a round is forgotten:
    of these there is what all of it wrote."""
    kept, rounds = dict(state.accepted.kept), dict(state.accepted.rounds)
    for run in state.runs.values():
        kept.update(_kept(run))
        if isinstance(run, LoopRun) and run.status != "succeeded" and run.round:
            rounds[run.id] = Rounds(done=run.round, fields=dict(run.context.fields))
    return kept, rounds


def _kept(run: Run) -> dict[str, dict[str, Any]]:
    match run:
        case StepRun(outcome=StepSucceeded(outputs=outputs)):
            return {run.id: outputs}
        case MapRun() | LoopRun() if run.status == "succeeded":
            return {run.id: run.written}
        case MapRun():
            results = enumerate(run.results)
            return {f"{run.id}-{place}": done.written for place, done in results if done and done.status == "succeeded"}
    return {}
