"""Branches side by side: a parallel step's, and a map's for the items of a list.

running ──a quorum of more than the items> failed
running ──branch ended, not settled──────> running
running ──branch ended, settled──────────> the others are abandoned: all has a failure (unless failures are collected),
                                           any has a success, a quorum is reached or out of reach
running ──its time is over───────────────> the others are abandoned
running ──last branch ended──────────────> succeeded, failed, timed_out, or cancelled

Results are in the order written, and every branch's outcome is kept.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dspex_bus.wire import ErrorInfo

from .commands import Command, SetTimer
from .errors import cancelled, failure
from .events import StepDue
from .state import JoinRun, MapRun, ParallelRun, Result, Run, RunStatus, Session, Settled

ABANDONED = {"enough": "not_needed", "hopeless": "sibling_failed", "timed_out": "join_timed_out"}
"""Why the other branches of a settled join are abandoned."""


def deadline(run: ParallelRun | MapRun) -> list[Command]:
    """The timer of a join that has one."""
    limit_ms = run.node.join.timeout_ms
    due_ms = run.started_ms + limit_ms
    return [SetTimer(due_ms, StepDue(time_ms=due_ms, node=run.id))] if limit_ms else []


def timed_out(run: ParallelRun | MapRun) -> ErrorInfo:
    """What to record when the time of an open join is over."""
    limit_s = run.node.join.timeout_ms / 1000
    return failure(run, "join_timed_out", f"{run.node.name!r} was not joined within {limit_s:g} s")


def begin(run: MapRun) -> bool:
    """Whether the number of its items settles a map before any is started."""
    return settle(run, _settled(run))


def child_ended(run: ParallelRun | MapRun, child: Run) -> bool:
    """Whether the others are not needed any more, by this branch's end."""
    place = int(child.id[child.id.rindex("-") + 1 :])
    result = Result(child.node.name, child.status, child.written, child.error)
    del run.branches[place]
    run.results[place] = result
    run.ended += 1
    if child.status == "succeeded":
        run.succeeded += 1
        run.winner = place if run.winner is None else run.winner
    elif run.failed is None:
        run.failed = result
    return not run.settled and settle(run, _settled(run))


def settle(run: JoinRun, settled: Settled) -> bool:
    run.settled = settled
    return bool(settled)


def is_over(run: ParallelRun | MapRun) -> bool:
    """Whether no branch runs, and none is to be started."""
    started = len(run.results) if isinstance(run, ParallelRun) else run.following
    return not run.branches and (started == len(run.results) or bool(run.settled or run.abandoned))


def close(session: Session, run: ParallelRun | MapRun) -> None:
    """End a join that is over."""
    run.ended_ms = session.now_ms
    error = _error(run)
    if error is not None:
        run.error = error
        run.status = _badly(run)
    elif run.node.save_as is not None:
        run.status = "succeeded"
        run.written = {run.node.save_as: [_outcome(run, place) for place in range(len(run.results))]}
    else:
        _write(run)


def _badly(run: ParallelRun | MapRun) -> RunStatus:
    """The status of a join that has failed."""
    if run.abandoned or run.node.join.kind == "all":
        if run.failed is None or run.failed.status == "cancelled":
            return "timed_out" if run.settled == "timed_out" and not run.abandoned else "cancelled"
        return "failed"
    return "timed_out" if run.settled == "timed_out" else "failed"


def _needed(run: ParallelRun | MapRun) -> int:
    """How many successes are enough; for ``all`` and ``best_effort`` it is not their number that decides."""
    return 1 if run.node.join.kind == "any" else run.node.join.quorum


def _settled(run: ParallelRun | MapRun) -> Settled:
    join = run.node.join
    if join.kind == "best_effort":
        return ""
    if join.kind == "all":
        return "hopeless" if run.failed is not None and join.on_error == "fail" else ""
    if run.succeeded >= _needed(run):
        return "enough"
    return "hopeless" if run.succeeded + len(run.results) - run.ended < _needed(run) else ""


def _error(run: ParallelRun | MapRun) -> ErrorInfo | None:
    """Why a join that is over has failed; None where it has not."""
    join = run.node.join
    if run.abandoned and (run.failed is not None or None in run.results):
        return run.failed.error if run.failed is not None else cancelled(run.abandoned, run)
    if join.kind == "best_effort" or run.settled == "enough":
        return None
    if run.settled == "timed_out":
        return None if join.on_error == "collect" and join.kind == "all" else timed_out(run)
    if join.kind == "all":
        return run.failed.error if run.failed is not None and join.on_error == "fail" else None
    return _too_few(run)


def _too_few(run: ParallelRun | MapRun) -> ErrorInfo:
    first = "" if run.failed is None or run.failed.error is None else f"; the first failure: {run.failed.error.message}"
    message = f"{run.succeeded} of the {len(run.results)} branches of {run.node.name!r} succeeded, and it takes"
    return failure(run, "join_failed", f"{message} {_needed(run)}{first}")


def _outcome(run: ParallelRun | MapRun, place: int) -> dict[str, Any]:
    """A branch as the context keeps it."""
    result = run.results[place]
    which: dict[str, Any] = {"index": place} if isinstance(run, MapRun) else {"branch": run.node.children[place].name}
    if result is None:  # an item that was not needed any more
        return {**which, "status": "cancelled", "error": msgspec.to_builtins(cancelled(_reason(run), run))}
    if result.status == "succeeded":
        return {**which, "status": "succeeded", "outputs": result.written}
    return {**which, "status": result.status, "error": msgspec.to_builtins(result.error)}


def _reason(run: JoinRun) -> str:
    return run.abandoned or ABANDONED[run.settled]


def _write(run: ParallelRun | MapRun) -> None:
    """The branches' fields: the winner's, a list over a map's items, or all of them together."""
    if run.node.join.kind == "any":
        assert run.winner is not None
        winner = run.results[run.winner]
        assert winner is not None
        run.status, run.written = "succeeded", winner.written
    elif isinstance(run, MapRun):
        run.status, run.written = "succeeded", _columns(run)
    else:
        _merge(run)


def _columns(run: MapRun) -> dict[str, list[Any]]:
    """A list for each field that items wrote, null where one did not."""
    names = dict.fromkeys(run.node.columns)
    names |= dict.fromkeys(name for result in run.results if result is not None for name in result.written)
    return {name: [None if result is None else result.written.get(name) for result in run.results] for name in names}


def _merge(run: ParallelRun) -> None:
    """All branches' fields, or ``output_conflict`` where two wrote the same one: neither is the right one."""
    merged: dict[str, Any] = {}
    writer: dict[str, str] = {}
    for result in run.results:
        assert result is not None
        for name, value in result.written.items():
            if name in merged:
                run.status, run.error = "failed", _conflict(run, name, writer[name], result.name)
                return
            merged[name], writer[name] = value, result.name
    run.status, run.written = "succeeded", merged


def _conflict(run: ParallelRun, field: str, first: str, second: str) -> ErrorInfo:
    message = f"the branches {first!r} and {second!r} of {run.node.name!r} both wrote {field!r}: rename one of them"
    message += " under 'outputs', or give the parallel step a 'save_as'"
    return failure(run, "output_conflict", message, field=field, branches=[first, second])
