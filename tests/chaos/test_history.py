"""The checker finds what is wrong with made-up histories, each one fault away from a right one."""

from __future__ import annotations

import itertools
from dataclasses import replace
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from core.router.building import branch, loop, mapped, parallel, pipeline, plan, sequence, sleep, steady, task, wait

from dspex_bus.subjects import ROUTER_POOL
from dspex_bus.wire import (
    CancelRequested,
    ErrorInfo,
    JournalEvent,
    Node,
    Parent,
    RunResult,
    SessionAccepted,
    SessionEnded,
    SignalReceived,
    StepCancelled,
    StepFailed,
    StepLost,
    StepSucceeded,
    StepTimedOut,
)

from .history import DAMAGED, Acknowledged, Execution, Observed, check
from .journal import Kept

ERROR = ErrorInfo(code="unavailable", message="no", retryable=True)
FAILED = StepFailed(error=ERROR)
LATE = StepTimedOut(error=ERROR)
JOIN_LATE = StepTimedOut(error=ErrorInfo(code="join_timed_out", message="late"))
DEADLINE_MS = 1_000_000


def done(**outputs: Any) -> StepSucceeded:
    return StepSucceeded(outputs=outputs)


class Written:
    """A journal as it is written, a millisecond and a sequence for each message."""

    def __init__(self, *nodes: Node, session: str = "s", **more: Any) -> None:
        self.kept: list[Kept] = []
        self._number = itertools.count(1)
        self.session = session
        more = {"input": {}, "deadline_ms": DEADLINE_MS, **more}
        accepted = SessionAccepted(session=session, plan=plan(*nodes), **more)
        self.put("accepted", accepted)

    def put(self, slot: str, event: JournalEvent, session: str | None = None, time_ms: int = 0) -> Kept:
        number = next(self._number)
        kind, *rest = slot.split(".")
        pool, node, attempt = (rest[0], rest[1], int(rest[2])) if kind == "step" else ("", "", 0)
        where = (session or self.session, slot, kind, pool, node, attempt)
        self.kept.append(Kept(number, time_ms or 1_000 + number, *where, event))
        return self.kept[-1]

    def step(self, node: str, event: JournalEvent, attempt: int = 1, pool: str = "native") -> Kept:
        return self.put(f"step.{pool}.{node}.{attempt}", event)

    def end(self, status: str = "succeeded", output: Any = None, code: str = "failed", time_ms: int = 0) -> Kept:
        if status == "succeeded":
            ended = SessionEnded(status="succeeded", output=output or {})
        else:
            ended = SessionEnded(status=status, error=ErrorInfo(code=code, message="no"))  # type: ignore[arg-type]
        return self.put("end", ended, time_ms=time_ms)

    def wrong(self, observed: Observed | None = None) -> list[str]:
        return [str(violation) for violation in check(self.kept, observed or Observed())]


def finds(written: Written, text: str, observed: Observed | None = None) -> None:
    found = written.wrong(observed)
    assert any(text in violation for violation in found), found


def two_steps() -> Written:
    written = Written(task("0", retry=steady(3, 0)), task("1"))
    written.step("0", FAILED)
    written.step("0", done(), attempt=2)
    written.step("1", done(token="t"))
    written.end(output={"token": "t"})
    return written


def test_a_right_history_is_found_right() -> None:
    observed = Observed(accepted={"s"}, results=[RunResult(session="s", status="succeeded", output={"token": "t"})])
    observed.executions = [
        Execution("s", "0", 1, 1_001, "a"),
        Execution("s", "0", 2, 1_003, "b"),
        Execution("s", "1", 1, 1_004, "t"),
    ]
    assert two_steps().wrong(observed) == []


def test_a_session_that_was_accepted_and_is_not_there() -> None:
    finds(two_steps(), "accepted: session other", Observed(accepted={"s", "other"}))


def test_ends() -> None:
    open_still = two_steps()
    open_still.kept.pop()
    finds(open_still, "it has 0 ends")
    twice = two_steps()
    twice.end()
    finds(twice, "it has 2 ends")
    finds(twice, "the slot end was filled twice")
    late = two_steps()
    late.step("1", done(), attempt=2)
    finds(late, "accepted after its end")
    given_up = two_steps()
    given_up.step("2", StepCancelled(reason="cancel_requested"))
    assert not [what for what in given_up.wrong() if "after its end" in what]
    told = two_steps()
    told.step("2", StepCancelled(reason="the session was cancelled"))
    finds(told, "accepted after its end")
    of_a_join = two_steps()
    of_a_join.step("0", JOIN_LATE)
    finds(of_a_join, "accepted after its end")


def test_a_beginning() -> None:
    headless = two_steps()
    headless.kept.pop(0)
    finds(headless, "it begins with StepFailed")
    twice = two_steps()
    twice.kept.append(twice.kept[0])
    finds(twice, "accepted more than once")


def test_a_step_that_succeeded_twice() -> None:
    written = Written(task("0"))
    written.step("0", done())
    written.step("0", done(), attempt=2)
    written.end()
    finds(written, "more than one success")
    finds(written, "0.1 was StepSucceeded, and another attempt followed")


@pytest.mark.parametrize("attempts", [(2,), (1, 3), (2, 1)])
def test_attempts_with_gaps_or_out_of_turn(attempts: tuple[int, ...]) -> None:
    written = Written(task("0", retry=steady(5)))
    for attempt in attempts:
        written.step("0", FAILED, attempt=attempt)
    written.end("failed")
    finds(written, f"stored as {list(attempts)}")


def retried(failures: list[JournalEvent], attempts: int = 3, gap_ms: int = 100, **more: Any) -> Written:
    """A step whose attempts come a tenth of a second after one another."""
    written = Written(task("0", retry=steady(attempts, 0.1, **more)))
    for number, failure in enumerate([*failures, done()], 1):
        written.put(f"step.native.0.{number}", failure, time_ms=2_000 + number * gap_ms)
    written.end(time_ms=5_000)
    return written


def test_retries_are_what_the_policy_says() -> None:
    assert retried([FAILED, LATE]).wrong() == []
    finds(retried([FAILED, FAILED, FAILED]), "0.4 followed a failure that is final by its policy")
    refused = StepFailed(error=ErrorInfo(code="refused", message="no"))
    finds(retried([refused]), "0.2 followed a failure that is final by its policy")
    assert retried([refused], codes=("refused",)).wrong() == []
    finds(retried([FAILED], codes=("refused",)), "0.2 followed a failure that is final by its policy")


def test_retries_are_not_early() -> None:
    finds(retried([FAILED], gap_ms=60), "0.2 has an outcome 40 ms before it was due")
    asked = StepFailed(error=ERROR, retry_after_ms=300)
    finds(retried([asked]), "0.2 has an outcome 200 ms before it was due")
    ran = Observed(executions=[Execution("s", "0", 2, 2_170, "t")])
    finds(retried([FAILED]), "0.2 ran 30 ms before it was due", ran)
    past = retried([FAILED])
    accepted = past.kept[0].event
    assert isinstance(accepted, SessionAccepted)
    past.kept[0] = replace(past.kept[0], event=msgspec.structs.replace(accepted, deadline_ms=2_150))
    finds(past, "0.2 was due past the run's deadline")


def test_sleeps_and_waits_are_not_early() -> None:
    def written(node: Node, event: JournalEvent, time_ms: int, signal: Any = None) -> list[str]:
        made = Written(task("0"), node)
        made.step("0", done())  # at 1,002
        if signal is not None:
            made.put("signal.1", SignalReceived(name="go", id="1", payload=signal))
        made.put(f"step.{ROUTER_POOL}.1.1", event, time_ms=time_ms)
        made.end("failed" if isinstance(event, StepTimedOut) else "succeeded", time_ms=time_ms)
        return made.wrong()

    early = ["joins: session s: 1 has an outcome 100 ms before it was due"]
    by_default = wait("1", timeout_ms=500, default={"said": 0})
    for node, event in (
        (sleep("1", 500), done()),
        (wait("1", timeout_ms=500), LATE),
        (by_default, done(said=0)),
    ):
        assert written(node, event, 1_502) == []
        assert written(node, event, 1_402) == early
    assert written(by_default, done(said=1), 1_402, {"said": 1}) == []
    assert written(by_default, done(said=0), 1_402, {"said": 0}) == []
    assert written(by_default, done(said=0), 1_402, {"said": 1}) == early


def test_joins_are_not_over_early() -> None:
    for timeout_ms, at_ms, wrong in (
        (500, 1_501, []),
        (500, 1_401, ["joins: session s: the time of 0 was over 100 ms before it was due"]),
        (0, 1_501, ["joins: session s: the time of 0 was over at 2, and it has none"]),
    ):
        written = Written(three(timeout_ms=timeout_ms))
        written.put(f"step.{ROUTER_POOL}.0.1", JOIN_LATE, time_ms=at_ms)
        written.end("failed", time_ms=2_000)
        assert written.wrong() == wrong


def test_no_attempt_after_its_join_was_settled() -> None:
    """It was to come yet, or its turn had not come when what was before it failed."""

    def written(failed_ms: int, settled_ms: int, then: JournalEvent) -> list[str]:
        made = Written(parallel("0", task("0-0", retry=steady(2, 0.1)), task("0-1"), kind="any"))
        told = [
            ("step.native.0-0.1", FAILED, failed_ms),
            ("step.native.0-1.1", done(), settled_ms),
            ("step.native.0-0.2", then, 1_300),
        ]
        for slot, event, time_ms in sorted(told, key=lambda one: one[2]):
            made.put(slot, event, time_ms=time_ms)
        made.end(time_ms=1_400)
        return made.wrong()

    due = ["joins: session s: 0-0.2 was due after its join 0 was settled at"]
    assert written(1_100, 1_220, done()) == []
    assert written(1_100, 1_150, done()) == [f"{due[0]} 3"]
    assert written(1_100, 1_150, StepCancelled(reason="not_needed")) == []
    assert written(1_150, 1_100, done()) == [f"{due[0]} 2"]


def test_outcomes_that_are_nobody_s() -> None:
    written = two_steps()
    written.step("7", StepCancelled(reason="not_needed"))
    finds(written, "7 has an outcome, and is no step of its plan")
    written.step("1", StepCancelled(reason="not_needed"), attempt=2, pool="other")
    finds(written, "1.2 has an outcome of the pool other")
    group = Written(sequence("0", task("0-0")))
    group.step("0-0", done())
    group.step("0", done(), pool=ROUTER_POOL)
    group.end()
    finds(group, "0 has an outcome, and is no step of its plan")


def test_a_cancel_that_came_after_the_last_step() -> None:
    for before, right in ((True, True), (False, False)):
        written = Written(task("0"))
        if before:
            written.put("cancel", CancelRequested())
        written.step("0", done())
        if not before:
            written.put("cancel", CancelRequested())
        written.end("cancelled")
        assert (written.wrong() == []) is right, written.wrong()


@pytest.mark.parametrize("outcome", [StepLost(error=ERROR), StepCancelled()])
def test_an_attempt_after_one_that_ended_the_step(outcome: JournalEvent) -> None:
    written = Written(task("0", retry=steady(5)))
    written.step("0", outcome)
    written.step("0", done(), attempt=2)
    written.end()
    finds(written, f"{type(outcome).__name__}, and another attempt followed")


def test_ends_without_a_cause() -> None:
    nobody = Written(task("0"))
    nobody.end("cancelled")
    finds(nobody, "nobody had asked")
    early = Written(task("0"))
    early.end("timed_out")
    finds(early, "before its deadline")
    given_up = Written(task("0"))
    given_up.end("failed", code="internal")
    finds(given_up, "internal error")
    in_time = Written(task("0"))
    in_time.end("timed_out", time_ms=DEADLINE_MS)
    assert in_time.wrong() == []
    cut_short = Written(task("0"))
    cut_short.step("0", StepTimedOut(error=ErrorInfo(code="deadline_exceeded", message="late")))
    cut_short.end("failed")
    finds(cut_short, "0.1 was past the run's deadline 998998 ms before that")


def test_a_step_before_its_turn() -> None:
    written = Written(task("0"), task("1"))
    written.step("1", done())
    written.step("0", done())
    written.end()
    finds(written, "1 has an outcome at 2, and could begin at 3")
    skipped = Written(task("0"), task("1"))
    skipped.step("1", done())
    skipped.end()
    finds(skipped, "1 ran, and 0 has not succeeded")
    finds(skipped, "it succeeded, and its steps had unknown")


def test_ends_that_the_steps_do_not_tell() -> None:
    lucky = Written(task("0"))
    lucky.step("0", FAILED)
    lucky.end()
    finds(lucky, "it succeeded, and its steps had failed")
    unlucky = Written(task("0"))
    unlucky.step("0", done())
    unlucky.end("failed")
    finds(unlucky, "it failed (failed), and its steps had succeeded")


def three(**join: Any) -> Node:
    return parallel(
        "0", *(sequence(f"0-{place}", task(f"0-{place}-0"), task(f"0-{place}-1")) for place in range(3)), **join
    )


JOINS: list[tuple[dict[str, Any], list[JournalEvent], str]] = [
    ({"kind": "all"}, [done(), done(), done()], "succeeded"),
    ({"kind": "all"}, [done(), FAILED, StepCancelled()], "failed"),
    ({"kind": "all", "on_error": "collect"}, [done(), FAILED, FAILED], "succeeded"),
    ({"kind": "any"}, [FAILED, done(), StepCancelled()], "succeeded"),
    ({"kind": "any"}, [FAILED, FAILED, FAILED], "failed"),
    ({"kind": "quorum", "quorum": 2}, [done(), FAILED, done()], "succeeded"),
    ({"kind": "quorum", "quorum": 2}, [FAILED, done(), FAILED], "failed"),
    ({"kind": "best_effort"}, [FAILED, FAILED, FAILED], "succeeded"),
]


@pytest.mark.parametrize(("join", "outcomes", "status"), JOINS)
def test_joins_end_as_their_policy_says(join: dict[str, Any], outcomes: list[JournalEvent], status: str) -> None:
    for claimed in ("succeeded", "failed"):
        written = Written(parallel("0", task("0-0"), task("0-1"), task("0-2"), **join))
        for place, outcome in enumerate(outcomes):
            written.step(f"0-{place}", outcome)
        written.end(claimed)
        if claimed == status:
            assert written.wrong() == []
        else:
            finds(written, f"it {claimed}")


@pytest.mark.parametrize(
    ("join", "first"),
    [({"kind": "any"}, done()), ({"kind": "all"}, FAILED), ({"kind": "quorum", "quorum": 3}, FAILED)],
)
def test_a_branch_that_goes_on_after_its_join_was_settled(join: dict[str, Any], first: JournalEvent) -> None:
    written = Written(three(**join))
    if isinstance(first, StepSucceeded):
        written.step("0-0-0", done())
        written.step("0-0-1", first)
    else:
        written.step("0-0-0", first)
    written.step("0-1-0", done())
    allowed = list(written.kept)
    written.step("0-1-1", done())
    status = "succeeded" if isinstance(first, StepSucceeded) else "failed"
    written.end(status)
    finds(written, "0-1-1 began at")
    written.kept = allowed
    written.end(status)
    assert written.wrong() == []


def test_a_join_whose_time_was_over() -> None:
    written = Written(three(timeout_ms=1))
    written.step("0", LATE, pool=ROUTER_POOL)
    written.step("0-0-0", done())
    written.step("0-0-1", done())
    written.end("failed")
    finds(written, "0-0-1 began at 3, after its join 0 was settled at 2")


def test_a_join_whose_time_was_over_after_its_end() -> None:
    written = Written(parallel("0", task("0-0"), timeout_ms=1), task("1"))
    written.step("0-0", done())
    written.step("1", done())
    written.end()
    written.step("0", JOIN_LATE, pool=ROUTER_POOL)
    assert written.wrong() == []


def test_outcomes_kept_by_a_join() -> None:
    for statuses, right in (("succeeded failed", True), ("failed succeeded", False)):
        written = Written(parallel("0", task("0-0"), task("0-1"), save_as="all", on_error="collect"))
        written.step("0-0", done())
        written.step("0-1", FAILED)
        kept = [{"branch": f"step 0-{place}", "status": status} for place, status in enumerate(statuses.split())]
        written.end(output={"all": kept})
        assert (written.wrong() == []) is right
        written.kept.pop()
        written.end(output={"all": kept[::-1]})
        finds(written, "out of order")


def test_a_branch_that_was_given_up_while_its_steps_travelled() -> None:
    """Its outcome comes with what travelled along; but the join had been settled, and nothing of it was to come."""
    for settled_first, right in ((True, True), (False, False)):
        written = Written(
            parallel("0", task("0-0"), sequence("0-1", task("0-1-0"), task("0-1-1")), kind="any", save_as="v")
        )
        if settled_first:
            written.step("0-0", done())
        travelled = written.step("0-1-0", done())
        slot = "step.native.0-1-1.1"
        written.kept.append(replace(travelled, sequence=travelled.sequence + 0.001, slot=slot, node="0-1-1"))
        if not settled_first:
            written.step("0-0", StepCancelled(reason="not_needed"))
        first = "succeeded" if settled_first else "cancelled"
        kept = [{"branch": "step 0-0", "status": first}, {"branch": "sequence 0-1", "status": "cancelled"}]
        written.end(output={"v": kept})
        assert (written.wrong() == []) is right, written.wrong()


def test_a_join_s_time_that_is_told_to_be_over_after_the_session_has_ended() -> None:
    """By a router that hung: the join had been settled from above, and what came after it in the plan is right."""
    inner = parallel("0-1-0", task("0-1-0-0"), task("0-1-0-1"), kind="best_effort", timeout_ms=100)
    written = Written(parallel("0", task("0-0"), sequence("0-1", inner), kind="any"), task("1"))
    written.step("0-1-0-0", done())
    written.step("0-0", done())
    written.step("1", done())
    written.end()
    written.step("0-1-0", JOIN_LATE, pool=ROUTER_POOL)
    assert written.wrong() == []


def test_a_join_waits_for_branches_that_it_has_given_up() -> None:
    """Its own is settled only then, and what began in the meantime was right."""
    untold = parallel("0-1-0-1", wait("0-1-0-1-0"), task("0-1-0-1-1"), kind="any")
    hopeless = parallel("0-1-0", task("0-1-0-0"), untold)
    for late, right in ((False, True), (True, False)):
        written = Written(parallel("0", sequence("0-0", task("0-0-0"), task("0-0-1")), sequence("0-1", hopeless)))
        written.step("0-1-0-0", StepFailed(error=ErrorInfo(code="no", message="no")))
        if not late:
            written.step("0-0-0", done())
        written.step("0-1-0-1-0", StepCancelled(reason="sibling_failed"), pool=ROUTER_POOL)
        if late:
            written.step("0-0-0", done())
        written.step("0-0-1", StepCancelled(reason="sibling_failed"))
        written.end("failed")
        assert (written.wrong() == []) is right, written.wrong()


def test_a_retry_that_would_be_due_past_the_deadline_is_none() -> None:
    """So the failure stands, and a join that takes failures goes on, for as long as there is time."""
    for delay_s, right in ((DEADLINE_MS / 1000, True), (0.01, False)):
        first = parallel("0", task("0-0", retry=steady(2, delay_s)), on_error="collect")
        written = Written(first, sleep("1"))
        written.step("0-0", FAILED)
        written.step("1", StepCancelled(reason="deadline_passed"), pool=ROUTER_POOL)
        written.end("timed_out", time_ms=DEADLINE_MS)
        assert (written.wrong() == []) is right, written.wrong()


def test_items_of_a_map_start_as_others_end() -> None:
    def items(*order: int, limit: int) -> Written:
        written = Written(mapped("0", task("0-n-0"), limit=limit))
        for place in order:
            written.step(f"0-{place}-0", done())
        written.end()
        return written

    assert items(1, 0, 2, 3, limit=2).wrong() == []
    finds(items(2, 0, 1, 3, limit=2), "0-2-0 has an outcome at 2, and could begin at 3")


def test_a_quorum_of_more_than_the_items_starts_none() -> None:
    def short(items: object, *ran: int) -> Written:
        written = Written(mapped("0", task("0-n-0"), kind="quorum", quorum=3), input={"items": items})
        for place in ran:
            written.step(f"0-{place}-0", FAILED)
        written.end("failed", code="join_failed")
        return written

    assert short(["a", "b"]).wrong() == []
    finds(short(["a", "b"], 1), "0-1-0 ran, and its join 0 takes more than its 2 items")
    # Items that another step made: the journal tells of those alone that ended.
    assert short(None).wrong() == []
    assert short(None, 0, 1).wrong() == []


def test_rounds_of_a_loop_and_ways_of_a_branch() -> None:
    looped = Written(loop("0", task("0-n-0"), at_most=2))
    for round in range(3):
        looped.step(f"0-{round}-0", done())
    looped.end()
    finds(looped, "went round 3 times of 2")
    again = Written(loop("0", task("0-n-0")))
    again.step("0-0-0", FAILED)
    again.step("0-1-0", done())
    again.end("failed")
    finds(again, "0-1-0 ran, and round 0 has not succeeded")
    both = Written(branch("0", ("a", task("0-0-0")), otherwise=task("0-1-0")))
    both.step("0-0-0", done())
    both.step("0-1-0", done())
    both.end()
    finds(both, "more than one way")


def family(end: SessionEnded, taken: JournalEvent, *, child_first: bool = True) -> Written:
    written = Written(pipeline("0"))
    parent = Parent(session="s", partition=0, node="0", attempt=1)
    born = SessionAccepted(session="c", plan=plan(task("0")), input={}, deadline_ms=DEADLINE_MS, parent=parent)
    written.put("accepted", born, "c")
    written.put("step.native.0.1", done(x=1), "c")
    if child_first:
        written.put("end", end, "c")
    written.step("0", taken, pool=ROUTER_POOL)
    if not child_first:
        written.put("end", end, "c")
    written.end()
    return written


def test_children_end_and_are_what_their_parent_takes() -> None:
    good = SessionEnded(status="succeeded", output={"x": 1})
    assert family(good, done(x=1)).wrong() == []
    finds(family(good, done(x=2)), "its parent took")
    finds(family(good, done(x=1), child_first=False), "before it ended")
    orphan = family(good, done(x=1))
    orphan.kept = [kept for kept in orphan.kept if (kept.session, kept.kind) != ("c", "end")]
    finds(orphan, "its parent has ended, and it has not")


def test_what_clients_were_told() -> None:
    told = RunResult(session="s", status="succeeded", output={"token": "other"})
    finds(two_steps(), "a client was told", Observed(results=[told]))


def test_executions() -> None:
    finds(two_steps(), "which no execution of it returned", Observed(executions=[Execution("s", "1", 1, 1_004, "x")]))
    finds(two_steps(), "ran before attempt 1", Observed(executions=[Execution("s", "0", 2, 900, "b")]))
    finds(two_steps(), "for a session nobody accepted", Observed(executions=[Execution("x", "0", 1, 900, "b")]))


def test_cancels() -> None:
    written = Written(task("0"), task("1"))
    written.step("0", done())
    written.put("cancel", CancelRequested())
    written.step("1", done())
    written.end("cancelled")
    assert written.wrong(Observed(cancelled={"s": Acknowledged(1_005, 5)})) == []
    finds(written, "before it had ended", Observed(cancelled={"s": Acknowledged(1_005, 4)}))
    finds(written, "1.1 was accepted after", Observed(cancelled={"s": Acknowledged(1_003, 3)}))
    ran = [Execution("s", "1", 1, 1_050, "t")]
    late = Observed(cancelled={"s": Acknowledged(1_005, 5)}, executions=ran)
    finds(written, "was started 45 ms after its cancel", late)
    written.kept.pop(2)
    finds(written, "does not know of it", Observed(cancelled={"s": Acknowledged(1_005, 4)}))


def test_limits() -> None:
    """An attempt counts from its first execution until its outcome is stored, and what is executed after that does
    not."""
    written = Written(parallel("0", task("0-0"), task("0-1")))
    written.step("0-0", done())  # at 1,002
    written.step("0-1", done())  # at 1,003
    written.end()

    def observed(at_once: int, *started: tuple[str, int]) -> Observed:
        executions = [Execution("s", node, 1, at_ms, "t", under="few") for node, at_ms in started]
        return Observed(limits={"few": at_once}, executions=executions)

    together = (("0-0", 900), ("0-1", 950))
    assert written.wrong(observed(2, *together)) == []
    finds(written, "0-1.1 is one of 2 at once under few, of 1", observed(1, *together))
    assert written.wrong(observed(1, ("0-0", 900), ("0-1", 1_002), ("0-0", 1_010))) == []
    assert written.wrong(Observed(executions=observed(1, *together).executions)) == []


def test_ticks() -> None:
    def journal(*seconds: int) -> list[Kept]:
        kept = []
        for second in seconds:
            written = Written(task("0"), session=f"tick-20260101T0000{second:02}Z")
            written.step("0", done())
            written.end()
            kept += written.kept
        return kept

    def wrong(started: int, *seconds: int) -> list[str]:
        return [str(violation) for violation in check(journal(*seconds), Observed(schedules={"tick": (2.0, started)}))]

    assert wrong(3, 1, 3, 5) == []
    assert wrong(2, 1, 3, 5) == []
    assert wrong(2, 1, 5) == ["schedules: session tick: there is no tick between 00:00:01 and 00:00:05"]
    assert wrong(3, 1, 3) == ["schedules: session tick: it has started 3 sessions, and the journal has 2"]
    assert wrong(2, 1, 3, 5, 7, 9) == ["schedules: session tick: it counts 2 sessions, and the journal has 5"]


def test_what_is_carried_beside_messages() -> None:
    for large in ("right", "wrong"):
        values = {"large": large, "digest": sha256(b"right").hexdigest()}
        written = Written(task("0"))
        written.step("0", done(**values))
        written.end(output=values)
        assert len(written.wrong()) == (0 if large == "right" else 2)
    finds(written, "the outputs of 0.1 are not what it returned")
    finds(written, "its output is not what its last step returned")
    refused = Written(task("0"))
    refused.step("0", StepFailed(error=ErrorInfo(code=DAMAGED, message="no")))
    refused.end("failed")
    finds(refused, "0.1 was sent something else")
