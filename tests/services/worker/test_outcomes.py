"""What a handler may do, and which outcome comes of it. After each the worker serves on."""

from __future__ import annotations

import asyncio
import datetime
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dspex_bus.wire import StepFailed, StepSucceeded, StepTimedOut, Usage
from dspex_services import StepError
from dspex_services.handlers import Handlers, Step

from ..rig import Rig, now_ms

pytestmark = pytest.mark.anyio


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Point(msgspec.Struct):
    x: int
    when: datetime.date | None = None


def raising(error: Callable[[], BaseException]) -> Handlers:
    """The same fault in a thread and on the loop, and a step that works."""
    handlers = Handlers()

    @handlers.handler("thread")
    def thread(values: dict[str, Any]) -> dict[str, Any]:
        raise error()

    @handlers.handler("loop")
    async def loop(values: dict[str, Any]) -> dict[str, Any]:
        raise error()

    return with_fine(handlers)


def returning(value: Callable[[], Any]) -> Handlers:
    handlers = Handlers()

    @handlers.handler("thread")
    def thread(values: dict[str, Any]) -> Any:
        return value()

    @handlers.handler("loop")
    async def loop(values: dict[str, Any]) -> Any:
        return value()

    return with_fine(handlers)


def with_fine(handlers: Handlers) -> Handlers:
    @handlers.handler("fine")
    async def fine(values: dict[str, Any]) -> dict[str, Any]:
        return values

    return handlers


async def outcomes(rig: Rig, handlers: Handlers) -> list[Any]:
    async with rig.worker(handlers, slots=1):
        found = [await rig.run("thread"), await rig.run("loop")]
        assert (await rig.run("fine", {"a": 1})).outputs == {"a": 1}
        await rig.queue_empty()
    return found


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (lambda: ValueError("no good"), "ValueError: no good"),
        (lambda: SystemExit(3), "SystemExit: 3"),
        (lambda: KeyboardInterrupt(), "KeyboardInterrupt"),
        (lambda: asyncio.CancelledError(), "CancelledError"),
        (lambda: GeneratorExit(), "GeneratorExit"),
        (lambda: StopIteration("over"), "StopIteration"),
        (lambda: TimeoutError("mine"), "TimeoutError: mine"),
        (lambda: BaseExceptionGroup("two", [ValueError("a"), KeyboardInterrupt()]), "BaseExceptionGroup: two"),
        (lambda: Silent(), "Silent: (it has no text)"),
        (lambda: ValueError("\ud800"), "ValueError: ?"),
        (lambda: ValueError("x" * 3_000_000), "ValueError: xxx"),
        (lambda: StepError("odd", details={"thing": object()}), "StepError: odd"),
        (lambda: StepError("odd", code=5), "StepError: odd"),  # type: ignore[arg-type]
        (lambda: StepError.__new__(StepError), "StepError"),
    ],
)
async def test_whatever_a_handler_raises_is_its_failure(
    rig: Rig, error: Callable[[], BaseException], says: str
) -> None:
    for outcome in await outcomes(rig, raising(error)):
        assert isinstance(outcome, StepFailed)
        assert outcome.error.code == "handler_error"
        assert says in outcome.error.message
        assert not outcome.error.retryable
        assert len(outcome.error.message) < 5_000


async def test_sys_exit_ends_the_step_and_not_the_worker(rig: Rig) -> None:
    handlers = Handlers()

    @handlers.handler("thread")
    def thread(values: dict[str, Any]) -> dict[str, Any]:
        sys.exit("enough")

    @handlers.handler("loop")
    async def loop(values: dict[str, Any]) -> dict[str, Any]:
        sys.exit("enough")

    for outcome in await outcomes(rig, with_fine(handlers)):
        assert "enough" in outcome.error.message


async def test_where_it_was_raised_is_told(rig: Rig) -> None:
    for outcome in await outcomes(rig, raising(lambda: ValueError("no good"))):
        assert outcome.error.details["type"] == "ValueError"
        assert outcome.error.details["at"].startswith(("thread, line ", "loop, line "))


@pytest.mark.parametrize(
    ("asked", "waits_ms"), [(2, 2000), (0.25, 250), (0, 0), (-5, 0), (True, 0), ("soon", 0), (1e308, 86_400_000)]
)
async def test_an_error_of_ones_own_keeps_code_details_and_wait(rig: Rig, asked: Any, waits_ms: int) -> None:
    def error() -> StepError:
        return StepError(
            "later", code="busy", retryable=True, details={"retry_after_s": asked, "why": [None, False, 0]}
        )

    for outcome in await outcomes(rig, raising(error)):
        assert (outcome.error.code, outcome.error.retryable, outcome.error.message) == ("busy", True, "later")
        assert outcome.error.details["why"] == [None, False, 0]
        assert outcome.retry_after_ms == waits_ms


@pytest.mark.parametrize(
    "value",
    [
        lambda: None,
        lambda: 7,
        lambda: "text",
        lambda: [1, 2],
        lambda: {"it": object()},
        lambda: {None: 1},
        lambda: {("a", "b"): 1},
        lambda: {"text": "\ud800"},
        lambda: {"deep": {"list": [1.0, math.nan]}},
        lambda: {"much": math.inf},
        lambda: {"little": -math.inf, "nothing": None},
    ],
)
async def test_what_cannot_travel_is_refused(rig: Rig, value: Callable[[], Any]) -> None:
    for outcome in await outcomes(rig, returning(value)):
        assert isinstance(outcome, StepFailed)
        assert outcome.error.code == "invalid_output"


async def test_the_place_of_what_cannot_travel_is_told(rig: Rig) -> None:
    for outcome in await outcomes(rig, returning(lambda: {"deep": {"list": [1.0, math.nan]}})):
        assert "$.deep.list[1]" in outcome.error.message


async def test_a_value_that_contains_itself_is_refused(rig: Rig) -> None:
    def loop() -> Any:
        held: list[Any] = []
        held.append(held)
        return {"held": held}

    for outcome in await outcomes(rig, returning(loop)):
        assert outcome.error.code == "invalid_output"


@pytest.mark.parametrize(
    ("value", "outputs"),
    [
        ({}, {}),
        (
            {"a": None, "b": False, "c": 0, "d": "", "e": [], "f": {}},
            {"a": None, "b": False, "c": 0, "d": "", "e": [], "f": {}},
        ),
        ({1: "one", 2.5: "two"}, {"1": "one", "2.5": "two"}),
        ({"big": 2**80}, {"big": 2**80}),
        (Point(x=1, when=datetime.date(2024, 2, 29)), {"x": 1, "when": "2024-02-29"}),
        ({"point": Point(x=0)}, {"point": {"x": 0, "when": None}}),
        ({"set": {1}, "tuple": (1, "a")}, {"set": [1], "tuple": [1, "a"]}),
    ],
)
async def test_what_can_travel_arrives_whole(rig: Rig, value: Any, outputs: dict[str, Any]) -> None:
    for outcome in await outcomes(rig, returning(lambda: value)):
        assert isinstance(outcome, StepSucceeded)
        assert outcome.outputs == outputs
        assert type(outcome.outputs.get("c", 0)) is int


async def test_an_outcome_larger_than_a_message_says_what_was_large(rig: Rig) -> None:
    for outcome in await outcomes(rig, returning(lambda: {"small": 1, "large": "x" * 2_000_000})):
        assert outcome.error.code == "payload_too_large"
        assert outcome.error.details["outputs"]["large"] == 2_000_002
        assert "large (2000002 bytes)" in outcome.error.message


async def test_an_input_that_does_not_fit_names_the_field(rig: Rig) -> None:
    handlers = Handlers()

    @handlers.handler("typed")
    async def typed(point: Point) -> Point:
        return point

    async with rig.worker(handlers):
        outcome = await rig.run("typed", {"x": "one"})
        assert outcome.error.code == "invalid_input"
        assert "$.x" in outcome.error.message
        assert (await rig.run("typed", {"x": 0})).outputs == {"x": 0, "when": None}
        assert (await rig.run("typed", {"x": 1}, options={"x": 2})).outputs["x"] == 2


async def test_an_unknown_handler_is_told_with_those_there_are(rig: Rig) -> None:
    async with rig.worker(with_fine(Handlers())):
        outcome = await rig.run("missing")
        assert outcome.error.code == "unknown_handler"
        assert "fine" in outcome.error.message


@pytest.mark.parametrize("kind", ["thread", "loop"])
async def test_past_its_deadline_a_task_is_not_started(rig: Rig, kind: str) -> None:
    ran: list[str] = []
    async with rig.worker(_noting(ran)):
        outcome = await rig.run(kind, deadline_ms=now_ms() - 1)
        assert isinstance(outcome, StepTimedOut)
        assert outcome.error.code == "deadline_exceeded"
        await rig.queue_empty()
    assert not ran


@pytest.mark.parametrize("off_s", [3600, -3600])
async def test_deadlines_are_by_the_server_s_clock(rig: Rig, monkeypatch: pytest.MonkeyPatch, off_s: int) -> None:
    """The worker's own may be wrong."""
    right = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: right() + off_s * 1_000_000_000)
    ran: list[str] = []
    async with rig.worker(_noting(ran)):
        assert isinstance(await rig.run("loop", deadline_ms=now_ms() + 60_000), StepSucceeded)
        late = await rig.run("loop", deadline_ms=now_ms() - 60_000)
        assert isinstance(late, StepTimedOut)
    assert len(ran) == 1


async def test_the_runs_deadline_cuts_a_step_short(rig: Rig) -> None:
    handlers = Handlers()

    @handlers.handler("sleep")
    async def sleep(values: dict[str, Any], step: Step) -> dict[str, Any]:
        assert 0 < step.remaining_s < 1
        await asyncio.sleep(30)
        return {}

    async with rig.worker(handlers):
        outcome = await rig.run("sleep", deadline_ms=now_ms() + 300, timeout_ms=20_000)
        assert isinstance(outcome, StepTimedOut)
        assert outcome.error.code == "deadline_exceeded"


async def test_usage_is_added_up(rig: Rig) -> None:
    handlers = Handlers()

    @handlers.handler("spend")
    async def spend(values: dict[str, Any], step: Step) -> dict[str, Any]:
        step.record_usage(None)
        step.record_usage(Usage(calls=1, input_tokens=10, output_tokens=2, model="m"))
        step.record_usage(Usage(calls=1, input_tokens=5, output_tokens=1))
        if values.get("fail"):
            raise StepError("spent in vain")
        return {}

    spent = Usage(calls=2, input_tokens=15, output_tokens=3, model="m")
    async with rig.worker(handlers):
        assert (await rig.run("spend")).usage == spent
        assert (await rig.run("spend", {"fail": True})).usage == spent


def _noting(ran: list[str]) -> Handlers:
    handlers = Handlers()

    @handlers.handler("thread")
    def thread(values: dict[str, Any]) -> dict[str, Any]:
        ran.append("thread")
        return {}

    @handlers.handler("loop")
    async def loop(values: dict[str, Any]) -> dict[str, Any]:
        ran.append("loop")
        return {}

    return handlers
