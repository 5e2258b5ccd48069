"""A session as clients see it."""

from __future__ import annotations

from dspex_bus.wire import StepFailed, StepReport, StepSucceeded, StepTimedOut, Usage
from dspex_router.core import view

from .building import ACCEPTED_MS, DEADLINE_MS, Fold, error, loop, mapped, parallel, sequence, steady, task

USAGE = Usage(calls=1, input_tokens=2, output_tokens=3, model="m")


def reports(fold: Fold) -> dict[str, StepReport]:
    return {report.node: report for report in view(fold.state).steps}


def test_a_running_session() -> None:
    fold = Fold(task("0"), input={"a": 0})
    seen = view(fold.state)
    assert (seen.session, seen.pipeline, seen.digest, seen.status) == ("s1", "p", "d", "running")
    assert (seen.accepted_ms, seen.ended_ms, seen.deadline_ms) == (ACCEPTED_MS, 0, DEADLINE_MS)
    assert (seen.input, seen.output, seen.error, seen.cancel_requested) == ({"a": 0}, None, None, False)
    assert seen.plan == fold.state.accepted.plan


def test_a_session_keeps_running_until_its_end_is_stored() -> None:
    fold = Fold(task("0"))
    fold.succeed("0", {"a": None})
    assert view(fold.state).status == "running"
    fold.end(at_ms=9_000)
    seen = view(fold.state)
    assert (seen.status, seen.output, seen.ended_ms) == ("succeeded", {"a": None}, 9_000)


def test_a_cancelled_session() -> None:
    fold = Fold(task("0"))
    fold.cancel()
    assert view(fold.state).cancel_requested
    fold.abandoned("0", "cancel_requested")
    fold.end()
    seen = view(fold.state)
    assert seen.error is not None
    assert (seen.status, seen.error.code) == ("cancelled", "cancelled")


def test_every_node_is_there_in_the_order_written_parents_first() -> None:
    fold = Fold(task("0"), parallel("1", sequence("1-0", task("1-0-0")), task("1-1")), task("2"))
    seen = reports(fold)
    assert list(seen) == ["0", "1", "1-0", "1-0-0", "1-1", "2"]
    assert [report.kind for report in seen.values()] == ["task", "parallel", "sequence", "task", "task", "task"]
    assert [report.status for report in seen.values()] == ["running", *["pending"] * 5]
    assert seen["2"] == StepReport(
        node="2", name="step 2", kind="task", status="pending", implementation="native", handler="h", pool="native"
    )
    assert seen["1"] == StepReport(node="1", name="parallel 1", kind="parallel", status="pending")


def test_groups_have_times_and_errors() -> None:
    fold = Fold(sequence("0", task("0-0")))
    fold.fail("0-0", "busy", at_ms=ACCEPTED_MS + 2)
    group = reports(fold)["0"]
    assert group.error is not None
    assert (group.status, group.started_ms, group.duration_us, group.error.code) == (
        "failed",
        ACCEPTED_MS,
        2_000,
        "busy",
    )


def test_what_runs_more_than_once_is_counted() -> None:
    fold = Fold(mapped("0", task("0-n-0"), limit=1, on_error="collect"), input={"items": [0, 1, 2]})
    fold.succeed("0-0-0")
    seen = reports(fold)
    assert list(seen) == ["0", "0-n", "0-n-0"]
    body = seen["0-n-0"]
    assert (body.status, body.runs, body.succeeded, body.failed, body.handler) == ("running", 2, 1, 0, "h")
    fold.fail("0-1-0")
    fold.succeed("0-2-0")
    body = reports(fold)["0-n-0"]
    assert (body.status, body.runs, body.succeeded, body.failed) == ("failed", 3, 2, 1)


def test_what_ran_more_than_once_and_well() -> None:
    fold = Fold(loop("0", task("0-n-0"), until="true"))
    fold.succeed("0-0-0")
    assert (reports(fold)["0-n-0"].status, reports(fold)["0-n"].runs) == ("succeeded", 1)


def test_a_paused_session() -> None:
    fold = Fold(task("0"))
    fold.pause()
    assert view(fold.state).paused
    fold.go_on()
    assert not view(fold.state).paused


def test_a_running_attempt() -> None:
    fold = Fold(task("0", retry=steady(2)))
    fold.outcome("0", StepFailed(error=error(retryable=True), worker="w", started_ms=5, duration_us=6))
    fold.retry_due("0")
    report = reports(fold)["0"]
    assert report.error is not None
    assert (report.status, report.attempt, report.worker, report.duration_us) == ("running", 2, "", 0)
    assert report.started_ms == fold.run("0").started_ms


def test_a_step_that_waits_tells_of_the_attempt_that_failed() -> None:
    fold = Fold(task("0", retry=steady(2)))
    fold.outcome("0", StepFailed(error=error(retryable=True), worker="w", started_ms=5, duration_us=6, usage=USAGE))
    report = reports(fold)["0"]
    assert report.error is not None
    assert (report.status, report.attempt, report.error.code) == ("waiting", 2, "broken")
    assert (report.worker, report.started_ms, report.duration_us, report.usage) == ("w", 5, 6, USAGE)


def test_a_worker_s_own_times_are_better_than_ours() -> None:
    fold = Fold(task("0"), task("1"))
    fold.outcome("0", StepSucceeded(outputs={}, worker="w", started_ms=5, duration_us=6, usage=USAGE))
    report = reports(fold)["0"]
    assert (report.worker, report.started_ms, report.duration_us, report.usage) == ("w", 5, 6, USAGE)
    fold.outcome("1", StepTimedOut(error=error(), worker="w", started_ms=7, duration_us=8))
    report = reports(fold)["1"]
    assert (report.worker, report.started_ms, report.duration_us, report.usage) == ("w", 7, 8, None)


def test_what_no_worker_told_has_the_router_s_times() -> None:
    fold = Fold(task("0"), task("1"))
    fold.succeed("0", at_ms=ACCEPTED_MS + 3)
    report = reports(fold)["0"]
    assert (report.worker, report.started_ms, report.duration_us, report.usage) == ("", ACCEPTED_MS, 3_000, None)
    fold.lose("1", at_ms=ACCEPTED_MS + 5)
    report = reports(fold)["1"]
    assert (report.status, report.started_ms, report.duration_us) == ("lost", ACCEPTED_MS + 3, 2_000)
