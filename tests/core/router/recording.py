"""Recorded journals: what a router folded, and what it decided at each event.

    cd tests && python -m core.router.recording          record the scenarios that have no file yet

A file is never written again: sessions of the version that recorded it may still run. A version that decides otherwise
for one of them must not take over such sessions; change the core so that it decides the same, and record what is new
under a new name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from dspex_bus.wire import (
    Followed,
    JournalEvent,
    Parent,
    RetryPolicy,
    SessionEnded,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    Usage,
)
from dspex_router.core import Command, Recorded, Session, decide, resume

from .building import Fold, branch, error, loop, mapped, parallel, pipeline, sequence, sleep, steady, task, wait

FOLDER = Path(__file__).parent / "journals"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stored event, where it was stored, and the commands that it gave."""

    sequence: int
    time_ms: int
    partition: int
    pool: str
    node: str
    attempt: int
    event: JournalEvent
    commands: list[Any]

    @property
    def recorded(self) -> Recorded:
        return Recorded(
            sequence=self.sequence,
            time_ms=self.time_ms,
            event=self.event,
            partition=self.partition,
            pool=self.pool,
            node=self.node,
            attempt=self.attempt,
        )


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """``open`` is what an owner that has just folded the journal must do."""

    about: str
    steps: list[Step]
    open: list[Any]


def told(commands: list[Command]) -> list[Any]:
    """Commands as JSON-friendly values; a dispatch under no limits as it was before there were any."""
    return [{type(command).__name__: _told(msgspec.to_builtins(command))} for command in commands]


def _told(command: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in command.items() if name != "limits" or value}


def recording(about: str, journal: list[Recorded]) -> Recording:
    state: Session | None = None
    steps = []
    for recorded in journal:
        state, commands = decide(state, recorded)
        values = {name: getattr(recorded, name) for name in Recorded.__dataclass_fields__}
        steps.append(Step(**values, commands=told(commands)))
    assert state is not None
    return Recording(about=about, steps=steps, open=told(resume(state)))


# --- scenarios ---


def research() -> Fold:
    """A sequence with a parallel step in the middle: it succeeds, the branches end out of order."""
    plan = (
        task("0", reads={"spec": "spec"}, options={"strict": False}, writes={"signature": "parsed"}),
        task("1", pool="dspy", implementation="dspy", reads={"question": "question"}, retry=RetryPolicy()),
        parallel(
            "2",
            task("2-0", reads={"query": "question"}, options={"k": 3}),
            sequence("2-1", task("2-1-0", reads={"query": "parsed.inputs.0"}), task("2-1-1", reads_all=True)),
            task("2-2", reads={"hint": "hint"}, optional=("hint",), save_as="third"),
        ),
        task("3", reads={"passages": "passages", "third": "third.text", "reasoning": "reasoning"}, cache_ms=60_000),
    )
    fold = Fold(*plan, input={"question": "why?", "spec": "question -> answer"}, output=("answer",), reply="_INBOX.x.1")
    fold.succeed("0", {"signature": {"inputs": ["question"], "outputs": ["answer"]}})
    usage = Usage(calls=1, input_tokens=10, output_tokens=20, model="m")
    reasoned = StepSucceeded(outputs={"reasoning": ""}, worker="w-1", started_ms=1_001, duration_us=900, usage=usage)
    fold.outcome("1", reasoned, pool="dspy")
    fold.succeed("2-1-0", {"words": []})
    fold.succeed("2-2", {"text": None})
    fold.succeed("2-0", {"passages": [{"text": "because"}]})
    fold.succeed("2-1-1", {"summary": "s"})
    fold.succeed("3", {"answer": "because"})
    fold.end()
    return fold


def retries() -> Fold:
    """Failures that are retried, one on request later, one with the policy's jitter, until one is final."""
    fold = Fold(task("0", retry=RetryPolicy(attempts=4)), task("1", retry=steady(2, codes=("busy",))))
    fold.fail("0", "busy", retryable=True)
    fold.fail("0", "busy", retryable=True, retry_after_ms=5_000, at_ms=2_000)
    fold.time_out("0", retryable=True, at_ms=8_000)
    fold.succeed("0", {"a": 1}, at_ms=9_000)
    fold.fail("1", "busy")
    fold.fail("1", "broken", retryable=True)
    fold.end()
    return fold


def collected() -> Fold:
    """Branches of every outcome, collected in the order written."""
    branches = [task(f"0-{place}", name=f"branch {place}") for place in range(5)]
    fold = Fold(parallel("0", *branches, on_error="collect", save_as="found"))
    fold.lose("0-4")
    fold.fail("0-3", "busy")
    fold.time_out("0-2")
    fold.abandoned("0-1", "by hand")
    fold.succeed("0-0", {"a": None})
    fold.end()
    return fold


def sibling_failed() -> Fold:
    """A branch fails: of the others one runs, one waits for its retry, one has a sequence to go."""
    waits = task("0-1", retry=steady(3, delay_s=100))
    fold = Fold(
        parallel("0", task("0-0"), waits, sequence("0-2", task("0-2-0"), task("0-2-1")), task("0-3")), task("1")
    )
    fold.fail("0-1", retryable=True)
    fold.fail("0-0", "broken")
    fold.succeed("0-2-0", {"late": True})
    fold.abandoned("0-3", "sibling_failed")
    fold.end()
    return fold


def cancelled() -> Fold:
    """Cancelled in mid-run; a success that was faster counts, but changes the end no more."""
    fold = Fold(parallel("0", task("0-0"), task("0-1")), task("1"))
    fold.succeed("0-0", {"a": 1})
    fold.cancel("enough")
    fold.succeed("0-1", {"b": 2})
    fold.end()
    return fold


def deadline() -> Fold:
    """An outcome stored past the deadline, and a retry that would have come after it."""
    retried = task("0-1", retry=steady(3, delay_s=100))
    fold = Fold(parallel("0", task("0-0"), retried, on_error="collect"), task("1"), deadline_ms=60_000)
    fold.fail("0-1", "busy", retryable=True)
    fold.succeed("0-0", {"a": 1}, at_ms=60_000)
    fold.end()
    return fold


def deadline_elsewhere() -> Fold:
    """Given up for the deadline by an owner whose clock was ahead."""
    fold = Fold(parallel("0", task("0-0"), task("0-1")), deadline_ms=60_000)
    fold.abandoned("0-1", "deadline_passed", at_ms=59_990)
    return fold


def missing_field() -> Fold:
    """A field that no step wrote: recorded as the attempt's failure."""
    fold = Fold(task("0"), task("1", reads={"q": "parts.0"}))
    fold.succeed("0", {"parts": []})
    fold.outcome("1", StepFailed(error=error("missing_field")))
    fold.end()
    return fold


def ended_elsewhere() -> Fold:
    """Another owner's end came first, and more came after it."""
    fold = Fold(task("0"), task("1"), reply="_INBOX.x.2")
    fold.succeed("0")
    fold.end(SessionEnded(status="failed", error=error("internal")))
    fold.succeed("1")
    fold.cancel("too late")
    return fold


def midway() -> Fold:
    """In mid-run: one branch runs, one waits, one has succeeded."""
    fold = Fold(parallel("0", task("0-0"), task("0-1", retry=RetryPolicy(initial_s=10)), task("0-2")), task("1"))
    fold.succeed("0-2", {"a": 1})
    fold.fail("0-1", retryable=True)
    return fold


def items() -> Fold:
    """A map, two items at a time: out of order, one retried, one that fails and is collected."""
    body = (task("0-n-0", reads={"item": "item"}, retry=steady(2)), task("0-n-1", reads_all=True))
    fold = Fold(
        mapped("0", *body, limit=2, on_error="collect", save_as="found"),
        task("1", reads={"found": "found"}),
        input={"items": [0, 1, 2]},
    )
    fold.succeed("0-1-0", {"a": 1})
    fold.fail("0-0-0", "busy", retryable=True)
    fold.succeed("0-1-1", {"b": 1})
    fold.fail("0-2-0", "broken")
    fold.succeed("0-0-0", {"a": 0})
    fold.succeed("0-0-1", {"b": 0})
    fold.succeed("1", {"c": None})
    fold.end()
    return fold


def choices() -> Fold:
    """A branch that is taken, one that is not, and a loop of two rounds."""
    fold = Fold(
        branch("0", ("n > 5", task("0-0-0")), ("n > 2", task("0-1-0")), otherwise=task("0-2-0")),
        branch("1", ("n > 5", task("1-0-0"))),
        loop("2", task("2-n-0", reads_all=True), until="done"),
        input={"n": 3, "done": False},
    )
    fold.succeed("0-1-0", {"way": 1})
    fold.succeed("2-0-0", {"count": 1})
    fold.succeed("2-1-0", {"done": True})
    fold.end()
    return fold


def joins() -> Fold:
    """A quorum that is reached, any, and a join whose time is over."""
    fold = Fold(
        parallel("0", task("0-0"), task("0-1"), task("0-2"), kind="quorum", quorum=2, save_as="quorum"),
        parallel("1", task("1-0"), task("1-1"), kind="any"),
        parallel("2", task("2-0"), wait("2-1"), kind="best_effort", timeout_ms=2_000),
    )
    fold.succeed("0-2", {"a": 2})
    fold.succeed("0-0", {"a": 0})
    fold.abandoned("0-1", "not_needed")
    fold.fail("1-0")
    fold.succeed("1-1", {"b": 1})
    fold.succeed("2-0", {"c": 0})
    fold.outcome("2", StepTimedOut(error=error("join_timed_out")))
    fold.abandoned("2-1", "join_timed_out")
    fold.end()
    return fold


def waits() -> Fold:
    """A sleep, a signal that came early, one that comes in time, and a wait that ends by its default."""
    fold = Fold(sleep("0"), wait("1"), wait("2", "other"), wait("3", timeout_ms=2_000, default={"late": True}))
    fold.signal("go", payload={"by": "Ada"})
    fold.outcome("0", StepSucceeded(outputs={}), at_ms=2_000)
    fold.outcome("1", StepSucceeded(outputs={"by": "Ada"}))
    fold.signal("other", payload={"n": 0}, at_ms=3_000)
    fold.outcome("2", StepSucceeded(outputs={"n": 0}))
    fold.outcome("3", StepSucceeded(outputs={"late": True}), at_ms=6_000)
    fold.end()
    return fold


def paused() -> Fold:
    """Paused with a branch running and one waiting for its retry; cancelled in a second pause."""
    retried = sequence("0-1", task("0-1-0", retry=steady(2)), task("0-1-1"))
    fold = Fold(parallel("0", sequence("0-0", task("0-0-0"), pipeline("0-0-1")), retried))
    fold.fail("0-1-0", retryable=True)
    fold.pause()
    fold.succeed("0-0-0", {"a": 1})
    fold.go_on(at_ms=5_000)
    fold.succeed("0-1-0", {"b": 1})
    fold.pause()
    fold.cancel("enough")
    return fold


def child() -> Fold:
    """A pipeline within, tried twice; this session is itself a child, with a step that is kept."""
    within = pipeline("1", task("0"), reads={"q": "question"}, options={"k": 3}, retry=steady(2), timeout_ms=60_000)
    parent = Parent(session="s0", partition=3, node="4", attempt=1)
    fold = Fold(task("0"), within, input={"question": "why"}, kept={"0": {"kept": 0}}, parent=parent)
    fold.fail("1", "busy", retryable=True)
    fold.succeed("1", {"answer": "because"}, at_ms=9_000)
    fold.end()
    return fold


def fused() -> Fold:
    """Four steps that travel together: the first two come back, the third fails by itself and is tried again, and has
    the fourth along; then a round of a loop."""
    steps = [task(str(place), fuse=3 - place, reads={"n": "n"}, retry=steady(2)) for place in range(4)]
    fold = Fold(*steps, loop("4", task("4-n-0", fuse=1), task("4-n-1", reads_all=True), at_most=1), input={"n": 0})
    fold.outcome("0", StepSucceeded(outputs={"n": 1}, worker="w", then=(Followed(node="1", outputs={"n": 2}),)))
    fold.fail("2", "busy", retryable=True)
    fold.retry_due("2")
    fold.outcome("2", StepSucceeded(outputs={"n": 3}, then=(Followed(node="3", outputs={"n": 4}),)))
    fold.outcome("4-0-0", StepSucceeded(outputs={}, then=(Followed(node="4-0-1", outputs={"done": True}),)))
    fold.end()
    return fold


SCENARIOS: tuple[Callable[[], Fold], ...] = (
    research,
    retries,
    collected,
    sibling_failed,
    cancelled,
    deadline,
    deadline_elsewhere,
    missing_field,
    ended_elsewhere,
    midway,
    items,
    choices,
    joins,
    waits,
    paused,
    child,
    fused,
)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for scenario in SCENARIOS:
        path = FOLDER / f"{scenario.__name__}.json"
        if not path.exists():
            made = recording(scenario.__doc__ or "", scenario().journal)
            path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
            print(f"recorded {path.name}")


if __name__ == "__main__":
    main()
