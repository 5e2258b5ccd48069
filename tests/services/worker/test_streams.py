"""What a worker says of tokens: in order, to the last word, and never in the way of its work."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import anyio
import pytest

from dspex_bus import Message, NatsBus, subjects
from dspex_bus.errors import Disconnected
from dspex_bus.wire import (
    StepSucceeded,
    Task,
    TokenMessage,
    TokenPiece,
    TokensEnded,
    TokensStarted,
    TokenStatus,
    Unwanted,
    decode_tokens,
    encode,
)
from dspex_services.errors import StepError
from dspex_services.handlers import Handlers, Step
from dspex_services.streaming import Tokens

from ..rig import Rig

pytestmark = pytest.mark.anyio

handlers = Handlers()


@handlers.handler("spell")
async def spell(values: dict[str, Any], step: Step) -> dict[str, Any]:
    """Says its text letter by letter, then does what ``then`` says."""
    for letter in values["text"]:
        step.tell("text", letter)
        if values.get("slowly"):
            await asyncio.sleep(0.001)
    match values.get("then"):
        case "fail":
            raise StepError("on purpose", code="own")
        case "hang":
            await asyncio.sleep(30)
    return {"text": values["text"]}


@handlers.handler("spell_in_thread")
def spell_in_thread(values: dict[str, Any], step: Step) -> dict[str, Any]:
    for letter in values["text"]:
        step.tell("text", letter)
    return {"text": values["text"]}


@handlers.handler("pour")
async def pour(values: dict[str, Any], step: Step) -> dict[str, Any]:
    """Eight kilobytes for each of its pieces."""
    for number in range(values["pieces"]):
        step.tell("text", "x" * 8192)
        if number % 50 == 0:
            await asyncio.sleep(0)
    return {}


class Listener:
    def __init__(self, rig: Rig) -> None:
        self.said: list[TokenMessage] = []
        self._rig = rig

    async def hear(self, message: Message) -> None:
        self.said.append(decode_tokens(message.data, subject=message.subject))
        self._rig.changed()

    @property
    def text(self) -> str:
        return "".join(message.text for message in self.said if isinstance(message, TokenPiece))

    async def until_ended(self) -> TokensEnded:
        await self._rig.until(lambda: self.said and isinstance(self.said[-1], TokensEnded))
        assert isinstance(self.said[0], TokensStarted)
        assert [message.sequence for message in self.said] == list(range(len(self.said)))
        last = self.said[-1]
        assert isinstance(last, TokensEnded)
        return last


async def listening(rig: Rig, task: Task) -> Listener:
    listener = Listener(rig)
    subject = subjects.token_stream(task.session, task.node, task.attempt)
    await rig.bus.subscribe(subject, listener.hear)
    return listener


@pytest.mark.parametrize("handler", ["spell", "spell_in_thread"])
async def test_every_piece_in_order_and_the_end_before_the_outcome(rig: Rig, handler: str) -> None:
    async with rig.worker(handlers):
        task = rig.task(handler, {"text": "abcdefghij" * 40, "slowly": True}, stream=True)
        listener = await listening(rig, task)
        before: list[int] = []

        async def on_outcome(message: Message) -> None:
            before.append(len(listener.said))

        await rig.bus.subscribe(rig.slot(task).replace(subjects.JOURNAL, subjects.EVENT), on_outcome)
        await rig.send(task)
        await rig.outcome(task)
        ended = await listener.until_ended()
    assert (ended.status, ended.code, listener.text) == ("succeeded", "", task.inputs["text"])
    assert before == [len(listener.said)]


async def test_nothing_is_said_unless_somebody_asked(rig: Rig) -> None:
    async with rig.worker(handlers):
        task = rig.task("spell", {"text": "abc"})
        listener = await listening(rig, task)
        await rig.send(task)
        await rig.outcome(task)
        await rig.run("spell", {"text": "abc"})
    assert listener.said == []


async def test_the_last_word_after_a_failure_and_a_timeout(rig: Rig) -> None:
    async with rig.worker(handlers):
        for then, timeout_ms, status, code in [
            ("fail", 10_000, "failed", "own"),
            ("hang", 100, "timed_out", "step_timed_out"),
        ]:
            task = rig.task("spell", {"text": "ab", "then": then}, stream=True, timeout_ms=timeout_ms)
            listener = await listening(rig, task)
            await rig.send(task)
            ended = await listener.until_ended()
            assert (ended.status, ended.code, listener.text) == (status, code, "ab")


async def test_the_last_word_when_the_session_is_cancelled(rig: Rig) -> None:
    async with rig.worker(handlers):
        task = rig.task("spell", {"text": "ab", "then": "hang"}, stream=True)
        listener = await listening(rig, task)
        await rig.send(task)
        await rig.until(lambda: listener.text == "ab")
        await rig.bus.publish(subjects.cancelled(task.session), encode(Unwanted()))
        assert (await listener.until_ended()).status == "cancelled"
        # One that comes only now never starts, and is over for whoever listens.
        late = rig.task("spell", {"text": "ab"}, session=task.session, node="1", stream=True)
        listener = await listening(rig, late)
        await rig.send(late)
        assert (await listener.until_ended()).status == "cancelled"


async def test_an_attempt_that_another_worker_left_behind(rig: Rig) -> None:
    done = rig.task("spell", {"text": "ab"}, stream=True)
    stored = encode(StepSucceeded(outputs={}))
    await rig.bus.store_and_wait(rig.slot(done), stored, once=True)
    listener = await listening(rig, done)
    async with rig.worker(handlers):
        await rig.send(done, {"Dspex-Resent": "1"})
        assert (await listener.until_ended()).status == "succeeded"
    assert listener.text == ""


async def test_a_worker_that_leaves_says_so_and_the_next_begins_anew(rig: Rig) -> None:
    task = rig.task("spell", {"text": "ab", "then": "hang"}, stream=True, timeout_ms=500)
    listener = await listening(rig, task)
    async with rig.worker(handlers, drain_s=0.1):
        await rig.send(task)
        await rig.until(lambda: listener.text == "ab")
    assert (await listener.until_ended()).status == "interrupted"
    listener.said.clear()
    async with rig.worker(handlers):
        assert (await listener.until_ended()).status == "timed_out"
    assert listener.text == "ab"


async def test_a_direct_call_streams_too(rig: Rig) -> None:
    async with rig.worker(handlers):
        task = rig.task("spell", {"text": "abc"}, stream=True)
        listener = await listening(rig, task)
        await rig.bus.request(subjects.now(rig.pool, "spell"), encode(task), timeout_s=5)
        assert (await listener.until_ended()).status == "succeeded"
    assert listener.text == "abc"


async def test_a_listener_that_never_reads_does_not_slow_the_worker(rig: Rig) -> None:
    """The server cuts it off; what it misses is nobody's concern."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(rig.url.rsplit(":", 1)[1]))
    writer.write(b"CONNECT {}\r\nSUB dspex.v1.token.> 1\r\nPING\r\n")
    await writer.drain()
    with anyio.fail_after(5):
        while not (await reader.readline()).startswith(b"PONG"):
            pass
    async with rig.worker(handlers):
        with anyio.fail_after(10):
            for _ in range(4):
                task = rig.task("pour", {"pieces": 2_000}, stream=True)
                await rig.send(task)
                assert isinstance(await rig.outcome(task), StepSucceeded)
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def test_a_connection_that_is_away_costs_what_does_not_fit_and_numbers_show_it(rig: Rig) -> None:
    class Away:
        """A bus that is away until told otherwise."""

        def __init__(self, bus: NatsBus) -> None:
            self.back = False
            self._bus = bus

        async def publish(self, subject: str, data: bytes) -> None:
            if not self.back:
                raise Disconnected("away")
            await self._bus.publish(subject, data)

    async with anyio.create_task_group() as group:
        task = rig.task("spell")
        listener = await listening(rig, task)
        bus = Away(rig.bus)
        subject = subjects.token_stream(task.session, task.node, task.attempt)

        def spawn(work: Any) -> None:
            group.start_soon(lambda: work)

        tokens = Tokens(bus, subject, "w", spawn)  # type: ignore[arg-type]
        for number in range(1000):
            tokens.piece(f"field{number}", "x")
        tokens.status("still there")
        tokens.close("succeeded")
        bus.back = True
        await rig.until(lambda: listener.said and isinstance(listener.said[-1], TokensEnded))
    numbers = [message.sequence for message in listener.said]
    assert len(numbers) <= 257
    assert numbers == sorted(numbers)
    assert numbers[-1] == 1002
    assert isinstance(listener.said[-2], TokenStatus)
