"""What the command line draws is a fold of the events."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from dspex.cli.drawing import tree
from dspex.progression import Progression
from dspex_bus.wire import (
    CancelRequested,
    ErrorInfo,
    JournalEvent,
    ParallelNode,
    Plan,
    Progress,
    RetryPolicy,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    StepCancelled,
    StepFailed,
    StepLost,
    StepSucceeded,
    StepTimedOut,
    StoredEvent,
    TaskNode,
)


def task(id: str) -> TaskNode:
    return TaskNode(
        id=id,
        name=f"step {id}",
        pool="native",
        handler="echo",
        implementation="native",
        timeout_ms=1,
        retry=RetryPolicy(),
    )


PLAN = Plan(
    pipeline="p",
    digest="d",
    root=SequenceNode(
        id="root",
        name="p",
        children=(task("0"), ParallelNode(id="1", name="both", children=(task("1-0"), task("1-1"))), task("2")),
    ),
)
ERROR = ErrorInfo(code="broken", message="it broke")


class Run:
    def __init__(self) -> None:
        self.progression = Progression()
        self.sequence = 0
        self.happens(SessionAccepted(session="s", plan=PLAN, input={}, deadline_ms=9))

    def happens(self, event: JournalEvent, node: str = "", attempt: int = 0, at: int = 0) -> Any:
        self.sequence += 1
        stored = StoredEvent(
            sequence=self.sequence, time_ms=at or self.sequence, event=event, node=node, attempt=attempt, pool="native"
        )
        return self.progression.fold(stored)

    def status(self, node: str) -> str:
        return self.progression.steps[node].status


def succeeded(at: int = 10, took_ms: int = 5) -> StepSucceeded:
    return StepSucceeded(outputs={}, worker="w", started_ms=at, duration_us=took_ms * 1000)


def test_nodes_are_in_the_order_written_with_their_depth() -> None:
    steps = Run().progression.steps
    assert {node: step.depth for node, step in steps.items()} == {"0": 0, "1": 0, "1-0": 1, "1-1": 1, "2": 0}
    assert all(step.status == "pending" for step in steps.values())


def test_a_group_is_what_its_members_are() -> None:
    run = Run()
    run.happens(succeeded(10, 5), "1-1", 1)
    assert run.status("1") == "running"
    run.happens(succeeded(8, 30), "1-0", 1)
    group = run.progression.steps["1"]
    assert (group.status, group.started_ms, group.duration_us) == ("succeeded", 8, 30_000)
    assert run.progression.done == 2
    assert run.progression.total == 4


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (StepFailed(error=ERROR), "failed"),
        (StepTimedOut(error=ERROR), "timed_out"),
        (StepCancelled(reason="fail fast"), "cancelled"),
        (StepLost(error=ERROR), "lost"),
    ],
)
def test_every_outcome_shows(event: JournalEvent, status: str) -> None:
    run = Run()
    run.happens(event, "0", 1)
    assert run.status("0") == status


def test_a_later_attempt_replaces_an_earlier_one() -> None:
    run = Run()
    run.happens(StepFailed(error=ERROR), "0", 1)
    step = run.happens(succeeded(), "0", 2)
    assert (step.status, step.attempt, step.error) == ("succeeded", 2, None)


def test_what_workers_say_counts_until_the_outcome() -> None:
    run = Run()
    run.progression.say("0", 1, Progress(worker="w", started_ms=3, note="half", fraction=0.5))
    assert run.status("0") == "running"
    run.happens(succeeded(), "0", 1)
    run.progression.say("0", 1, Progress(worker="w", started_ms=3))
    assert run.status("0") == "succeeded"
    run.progression.say("nobody", 1, Progress(worker="w", started_ms=3))


def test_the_drawing_has_every_step_and_the_end() -> None:
    run = Run()
    run.happens(succeeded(), "0", 1)
    run.happens(StepFailed(error=ERROR), "1-0", 1)
    run.happens(CancelRequested())
    run.happens(SessionEnded(status="failed", error=ERROR), at=1001)
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(tree(run.progression))
    text = console.export_text()
    assert "failed in 1.00 s" in text
    assert "broken: it broke" in text
    for node in ("0", "1-0", "1-1", "2"):
        assert f"step {node}" in text
    assert run.progression.cancel_requested
