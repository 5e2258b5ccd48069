"""The order in which events and tokens of one session are handed over."""

from __future__ import annotations

import pytest
from rich.console import Console

from dspex._feed import Feed, TokenEvent
from dspex.cli.drawing import tree
from dspex.progression import Progression
from dspex_bus import Message, subjects
from dspex_bus.errors import SlowConsumer
from dspex_bus.wire import (
    PipelineNode,
    Plan,
    RetryPolicy,
    SequenceNode,
    SessionAccepted,
    StepSucceeded,
    StoredEvent,
    TaskNode,
    TokenMessage,
    TokenPiece,
    TokensEnded,
    TokensStarted,
    TokenStatus,
    encode,
)

pytestmark = pytest.mark.anyio


def said(node: str, message: TokenMessage) -> Message:
    return Message(subjects.token_stream("s", node, 1), encode(message))


def event(node: str, sequence: int) -> Message:
    subject = subjects.outcome(0, "s", "native", node, 1).replace(subjects.JOURNAL, subjects.EVENT)
    headers = {"Nats-Sequence": str(sequence), "Nats-Time-Stamp": "2026-01-01T00:00:00Z"}
    return Message(subject, encode(StepSucceeded(outputs={})), headers=headers)


def started() -> TokenMessage:
    return TokensStarted(sequence=0)


async def test_a_step_s_tokens_its_event_and_then_the_next_step_s_tokens() -> None:
    feed = Feed()
    feed.behind = False
    for message in (said("0", started()), said("0", TokensEnded(sequence=1, status="succeeded"))):
        await feed.on_tokens(message)
    await feed.on_message(event("0", 5))
    await feed.on_tokens(said("1", started()))
    order = []
    for _ in range(3):
        while (told := feed.token()) is not None:
            order.append(told.node)
        if (live := await feed.next(0.01)) is not None:
            order += [told.node for told in feed.tokens_of(live.node, live.attempt)]
            order.append(f"event {live.node}")
    assert order == ["0", "0", "event 0", "1"]
    assert feed.speaking
    assert feed.speaks("1", 1)


async def test_what_belongs_to_one_attempt_and_to_the_pipeline_that_it_ran() -> None:
    feed = Feed()
    for node in ("1", "10", "1-0", "2"):
        await feed.on_tokens(said(node, started()))
    assert [told.node for told in feed.tokens_of("1", 1)] == ["1", "1-0"]
    assert [told.node for told in feed.rest()] == ["10", "2"]


async def test_tokens_that_are_not_taken() -> None:
    feed = Feed()
    feed.behind = False
    for number in range(5000):
        await feed.on_tokens(said("0", TokenPiece(sequence=number, field="a", text="x")))
    taken = len(feed.rest())
    assert 4000 < taken < 5000
    with pytest.raises(SlowConsumer):
        feed.token()


async def test_what_a_later_version_says_is_passed_over() -> None:
    feed = Feed()
    await feed.on_tokens(Message(subjects.token_stream("s", "0", 1), b'{"type":"picture","sequence":1}'))
    assert feed.rest() == []


def test_what_is_written_is_drawn_below_its_step_until_that_has_ended() -> None:
    retry = RetryPolicy(attempts=1)
    answer = TaskNode(
        id="0", name="answer", pool="native", handler="predict", implementation="native", timeout_ms=1, retry=retry
    )
    inner = PipelineNode(id="1", name="inner", plan=Plan(pipeline="i", digest="d", root=_root()), retry=retry)
    plan = Plan(pipeline="p", digest="d", root=_root(answer, inner))
    progression = Progression()

    def fold(event: SessionAccepted | StepSucceeded, node: str = "") -> None:
        progression.fold(StoredEvent(sequence=1, time_ms=1, event=event, node=node, attempt=1 if node else 0))

    def tell(node: str, message: TokenMessage) -> None:
        progression.tell(TokenEvent(node, 1, message))

    fold(SessionAccepted(session="s", plan=plan, input={}, deadline_ms=9))
    tell("0", started())
    tell("0", TokenPiece(sequence=1, field="answer", text="forty"))
    tell("0", TokenPiece(sequence=2, field="answer", text="-two"))
    tell("0", TokenStatus(sequence=3, text="uses a calculator"))
    tell("1-3", TokenPiece(sequence=1, field="note", text="deep", predictor="hop"))
    drawn = _drawn(progression)
    assert "answer  forty-two" in drawn
    assert "uses a calculator" in drawn
    assert "3.hop.note  deep" in drawn
    tell("0", TokenPiece(sequence=4, field="answer", text="again", call=1))
    assert "forty" not in _drawn(progression)
    fold(StepSucceeded(outputs={}), "0")
    tell("0", TokenPiece(sequence=5, field="answer", text="too late"))
    assert "again" not in _drawn(progression)
    assert "too late" not in _drawn(progression)


def _root(*children: TaskNode | PipelineNode) -> SequenceNode:
    return SequenceNode(id="root", name="r", children=children)


def _drawn(progression: Progression) -> str:
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as capture:
        console.print(tree(progression))
    return capture.get()
