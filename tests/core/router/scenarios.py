"""What recorded journals are made of: sessions fed by hand. One that is recorded is not changed any more."""

from __future__ import annotations

from collections.abc import Callable

from dspex_bus.wire import (
    Budget,
    Followed,
    Origin,
    Parent,
    RetryPolicy,
    Rounds,
    SessionEnded,
    StepFailed,
    StepSucceeded,
    StepTimedOut,
    Usage,
    Watched,
)

from .building import Fold, branch, error, loop, mapped, parallel, pipeline, sequence, sleep, steady, task, wait


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


def limited() -> Fold:
    """Steps under limits, of a tenant's urgent run: each attempt asks for permits anew, and a child is as urgent."""
    busy = task("0", limits=("gpt", "per-key"), retry=steady(2, delay_s=0))
    fold = Fold(
        busy, parallel("1", task("1-0", limits=("gpt",)), pipeline("1-1")), tenant="acme", priority="high", thread="t"
    )
    fold.fail("0", "busy", retryable=True)
    fold.succeed("0", {"a": 1})
    fold.succeed("1-1", {"b": 1})
    fold.succeed("1-0", {"c": 1})
    fold.end()
    return fold


def budgeted() -> Fold:
    """A budget: what is used counts with every attempt, also of steps that travelled along and of pipelines, and what
    is left goes to a child."""
    fold = Fold(
        task("0", retry=steady(2, delay_s=0), fuse=1),
        task("1"),
        pipeline("2"),
        task("3"),
        budget=Budget(cost=1.0, tokens=1_000),
    )
    used = Usage(calls=1, input_tokens=100, output_tokens=50, model="m", cost=0.125)
    fold.outcome("0", StepFailed(error=error("busy", retryable=True), usage=used))
    along = Followed(node="1", outputs={"b": 1}, usage=Usage(calls=2, input_tokens=10, saved_calls=1))
    fold.outcome("0", StepSucceeded(outputs={"a": 1}, usage=used, then=(along,)))
    fold.outcome("2", StepSucceeded(outputs={"c": 1}, usage=Usage(calls=1, output_tokens=400, cost=0.5)))
    fold.outcome("3", StepTimedOut(error=error("step_timed_out"), usage=Usage(calls=1, input_tokens=5_000)))
    fold.end()
    return fold


def forked() -> Fold:
    """A session made from another: what was kept runs no more, not in a branch, in a map's item or before a row."""
    kept = {"0": {"a": 0}, "1-1": {"c": 0}, "2-0-0": {"d": 0}, "3": {"e": 0}}
    fold = Fold(
        task("0", writes={"a": "first"}),
        parallel("1", task("1-0"), task("1-1")),
        mapped("2", task("2-n-0"), limit=1),
        task("3", fuse=1),
        task("4"),
        input={"items": [0, 1]},
        kept=kept,
        origin=Origin(session="s0", node="2-1-0"),
    )
    fold.succeed("1-0", {"b": 1})
    fold.succeed("2-1-0", {"d": 1})
    fold.succeed("4", {"f": 1})
    fold.end()
    return fold


def unwanted() -> Fold:
    """Children of a run that is cancelled and of a branch that is not needed: each is told, and reports."""
    branches = (pipeline("0-0"), sequence("0-1", task("0-1-0"), pipeline("0-1-1")), task("0-2"))
    fold = Fold(
        parallel("0", *branches, kind="any"), parallel("1", pipeline("1-0"), sequence("1-1", pipeline("1-1-0")))
    )
    fold.succeed("0-1-0")
    fold.succeed("0-2", {"a": 1})
    fold.abandoned("0-0", "not_needed")
    fold.succeed("0-1-1", {"late": True})
    fold.pause()
    fold.go_on()
    fold.cancel("enough")
    fold.abandoned("1-1-0", "cancel_requested")
    fold.succeed("1-0", {"late": True})
    fold.end()
    return fold


def at_home() -> Fold:
    """Steps with an affinity go where the last of their pool ran; a conversation and tokens of a run that streams as a
    step of another."""
    fold = Fold(
        task("0", affinity="strict", remember=True),
        task("1", affinity="hint"),
        task("2", pool="dspy", affinity="hint", stream=True),
        task("3"),
        parent=Parent(session="s0", partition=3, node="4", attempt=2),
        watched=Watched(session="s00", node="1-4"),
        stream=True,
        thread="talk",
    )
    fold.outcome("0", StepSucceeded(outputs={"a": 1}, worker="w-1"))
    fold.outcome("1", StepSucceeded(outputs={"b": 1}, worker="w-2", program="sha256:0"))
    fold.outcome("2", StepSucceeded(outputs={"c": 1}, worker="d-1", cached=True), pool="dspy")
    fold.succeed("3")
    fold.end()
    return fold


def nested() -> Fold:
    """Maps in loops in branches: rounds and items are counted and forgotten, one item fails on, and the run with it."""
    each = task("0-0-0-n-0-n-0", reads={"item": "item"})
    inner = mapped("0-0-0-n-0", each, limit=2, on_error="collect", save_as="got")
    body = loop("0-0-0", inner, task("0-0-0-n-1", reads_all=True), until="done", at_most=2)
    fold = Fold(
        branch("0", ("size(items) > 1", body)),
        mapped("1", parallel("1-n-0", task("1-n-0-0"), sleep("1-n-0-1", 5_000), kind="any"), limit=1),
        input={"items": [1, 2, 3], "done": False},
    )
    for round in range(2):
        above = f"0-0-0-{round}"
        fold.fail(f"{above}-0-1-0", "broken")
        fold.succeed(f"{above}-0-0-0", {"a": 0})
        fold.succeed(f"{above}-0-2-0", {"a": 2})
        fold.succeed(f"{above}-1", {"round": round})
    fold.succeed("1-0-0-0", {"b": 0})
    fold.abandoned("1-0-0-1", "not_needed")
    fold.fail("1-1-0-0")
    fold.outcome("1-1-0-1", StepSucceeded(outputs={}), at_ms=9_000)
    fold.fail("1-2-0-0")
    fold.abandoned("1-2-0-1", "by hand")
    fold.end()
    return fold


def hopeless() -> Fold:
    """Joins that cannot come to what they need, and two branches that write the same field; each is a branch of its own
    and what came of it is collected."""
    fold = Fold(
        parallel(
            "0",
            parallel("0-0", task("0-0-0"), task("0-0-1"), task("0-0-2"), kind="quorum", quorum=2),
            parallel("0-1", task("0-1-0"), kind="any"),
            parallel("0-2", task("0-2-0"), task("0-2-1")),
            mapped("0-3", task("0-3-n-0"), on_error="fail", limit=1),
            mapped("0-4", task("0-4-n-0"), over="absent"),
            loop("0-5", task("0-5-n-0"), until="count.more"),
            parallel("0-6", wait("0-6-0"), timeout_ms=1_000),
            on_error="collect",
            save_as="came",
        ),
        input={"items": [0, 1]},
    )
    fold.fail("0-0-0")
    fold.lose("0-0-2")
    fold.abandoned("0-0-1", "sibling_failed")
    fold.fail("0-1-0")
    fold.succeed("0-2-0", {"same": 0})
    fold.succeed("0-2-1", {"same": 1})
    fold.fail("0-3-0-0")
    fold.succeed("0-5-0-0", {"count": 1})
    fold.outcome("0-6", StepTimedOut(error=error("join_timed_out")), at_ms=3_000)
    fold.abandoned("0-6-0", "join_timed_out")
    fold.end()
    return fold


def signals() -> Fold:
    """Two waits for one name: the older signal to the older wait. One that was given up gives its signal back, and a
    wait without a default times out."""
    gone = sequence("0-1", wait("0-1-0"))
    fold = Fold(parallel("0", task("0-0"), gone, kind="any"), wait("1"), wait("2", timeout_ms=2_000))
    fold.signal("go", "1", {"n": 1})
    fold.succeed("0-0", {"a": 0})
    fold.abandoned("0-1-0", "not_needed")
    fold.outcome("1", StepSucceeded(outputs={"n": 1}))
    fold.signal("stop", "2")
    fold.outcome("2", StepTimedOut(error=error("wait_timed_out")), at_ms=9_000)
    fold.end()
    return fold


def stale() -> Fold:
    """Outcomes that come late, twice, of another attempt or of nobody, and controls that change nothing."""
    fold = Fold(task("0", retry=steady(3, delay_s=0)), task("1"))
    fold.go_on()
    fold.fail("0", retryable=True)
    fold.fail("0", retryable=True, attempt=1)
    fold.succeed("0", {"late": True}, attempt=1)
    fold.succeed("0", {"other": True}, pool="elsewhere")
    fold.succeed("9", {"nobody": True})
    fold.pause()
    fold.pause()
    fold.succeed("0", {"a": 1}, attempt=2)
    fold.go_on(at_ms=9_000)
    fold.succeed("1", {"b": 1})
    fold.succeed("1", {"b": 2})
    fold.end()
    fold.signal("late")
    return fold


def went_on() -> Fold:
    """A session that goes on in the third round of a loop, after a map that was made and one item of another."""
    fold = Fold(
        mapped("0", task("0-n-0")),
        mapped("1", task("1-n-0"), limit=1),
        loop("2", task("2-n-0", reads_all=True), until="done", at_most=4),
        input={"items": [0, 1], "done": False},
        kept={"0": {"a": [0, 1]}, "1-0": {"b": 0}},
        rounds={"2": Rounds(done=2, fields={"c": 1})},
        origin=Origin(session="s0", node="2-2-0"),
    )
    fold.succeed("1-1-0", {"b": 1})
    fold.succeed("2-2-0", {"c": 2})
    fold.succeed("2-3-0", {"c": 3})
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
    limited,
    budgeted,
    forked,
    unwanted,
    at_home,
    nested,
    hopeless,
    signals,
    stale,
    went_on,
)
