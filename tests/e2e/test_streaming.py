"""Tokens as they come: across processes, in the command line, while the model still writes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from nats.aio.client import Client as Nats
from scripted_server import Answer, Piece, ScriptedServer, Seen, playing

import dspex
from dspex.progression import Progression
from dspex_bus import subjects
from dspex_services.native.pool import native_handlers
from dspex_services.native.predicting import Models
from dspex_services.worker import Worker, WorkerConfig

from .conftest import RunningSystem
from .processes import ROOT
from .processes import dspex as command

pytestmark = pytest.mark.anyio

EXAMPLE = str(ROOT / "examples" / "streaming.yaml")
QUESTION = "question=What is 17 plus 25?"


def test_a_run_shows_what_models_write_field_by_field(running: RunningSystem) -> None:
    done = command("run", EXAMPLE, QUESTION, "--stream", environment=running.environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    output = json.loads(lines[-1])
    shown = {name.strip(): text for name, _, text in (line.partition(": ") for line in lines[:-1])}
    assert shown["think.answer"] == output["answer"] == "42"
    assert shown["explain.explanation"] == output["explanation"]
    ends = [number for number, line in enumerate(lines) if "✓" in line]
    assert lines.index("    think.answer: 42") < ends[0] < ends[1] == len(lines) - 2


@pytest.mark.slow
def test_for_a_program_every_event_and_token_is_a_line_and_the_result_the_last(running: RunningSystem) -> None:
    done = command("run", EXAMPLE, QUESTION, "--stream", "--json", environment=running.environment)
    *lines, result = [json.loads(line) for line in done.stdout.splitlines()]
    assert result["status"] == "succeeded"
    pieces = [line["message"] for line in lines if line.get("message", {}).get("type") == "piece"]
    assert "".join(piece["text"] for piece in pieces if piece["field"] == "answer") == "42"
    assert [line["event"]["type"] for line in lines if "event" in line] == [
        "session.accepted",
        "step.succeeded",
        "step.succeeded",
        "session.ended",
    ]


def test_a_program_shows_tokens_of_a_durable_run_and_of_one_that_is_not(running: RunningSystem) -> None:
    line = [sys.executable, str(ROOT / "examples" / "tokens.py")]
    done = subprocess.run(line, env=running.environment, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    *said, shown, full = done.stdout.strip().splitlines()
    events = [text.removeprefix("-- ") for text in said if text.startswith("-- ")]
    assert events == ["session.accepted", "step.succeeded 0", "step.succeeded 1", "session.ended"]
    assert said[said.index("-- step.succeeded 0") - 1].endswith("42")
    assert f"in full: {shown}" == full


def test_a_program_without_an_event_loop(running: RunningSystem) -> None:
    pipeline = dspex.pipeline([dspex.native("predict", signature="question -> answer")])
    inputs = {"question": "What is 17 plus 25?"}
    told: list[dspex.TokenEvent] = []
    with dspex.connect_sync(running.url) as dx:
        items = [item for item in dx.stream(pipeline, inputs, tokens=True) if isinstance(item, dspex.TokenEvent)]
        assert dx.run(pipeline, inputs, on_token=told.append).output == {"answer": "42"}
        assert not dx.threads.list()  # its parts block, too
        session = dx.submit(pipeline, inputs)
        assert session.result(timeout_s=20).status == "succeeded"
        assert [event.event for event in session.events()][-1] == list(dx.session(session.id).events())[-1].event
        predictor = dx.predictor("predict", "question -> answer")
        assert (predictor.operation, predictor(question="What is 17 plus 25?").answer) == ("predict", "42")
    assert [item.message for item in items][1:] == [item.message for item in told][1:]
    assert "".join(item.message.text for item in told if isinstance(item.message, dspex.TokenPiece)) == "42"


async def test_steps_of_a_pipeline_within_are_told_under_the_run_that_was_asked_for(client: dspex.Client) -> None:
    ask = dspex.native("predict", signature="question -> answer")
    await client.put_pipeline(dspex.pipeline([ask], name="streamed_innermost"))
    await client.put_pipeline(dspex.pipeline([dspex.subpipeline("streamed_innermost")], name="streamed_inner"))
    outer = dspex.pipeline([ask, dspex.subpipeline("streamed_inner", name="inner")])
    said, order, progression = dict[str, str](), list[str](), Progression()
    async for item in client.stream(outer, {"question": "What is 17 plus 25?"}, tokens=True):
        if isinstance(item, dspex.StoredEvent):
            order.append(f"event {item.node}")
            progression.fold(item)
        elif isinstance(item.message, dspex.TokenPiece):
            progression.tell(item)
            said[item.node] = said.get(item.node, "") + item.message.text
            step, inner = progression.place(item.node)
            assert step is not None
            order.append(f"{step.node.name} {inner}")
    assert said == {"0": "42", "1-0-0": "42"}
    assert order == ["event ", "predict ", "event 0", "inner 0-0.", "event 1", "event "]


class Slow:
    """A model that writes a word when it is told to."""

    def __init__(self) -> None:
        self.words = ["[[ ## answer ## ]]\n", "one ", "two ", "three"]

    def answer(self, number: int, seen: Seen) -> Answer:
        assert seen.body["stream"] is True
        pieces: list[Piece] = []
        for word in self.words:
            chunk = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": word}}]}
            pieces += [b"data: " + json.dumps(chunk).encode() + b"\n\n", 0.3]
        last = {"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        pieces.append(b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n")
        return Answer(pieces=pieces, headers=("Content-Type: text/event-stream",))


@pytest.fixture
async def slow(client: dspex.Client) -> AsyncIterator[ScriptedServer]:
    """A pool ``slow`` whose model takes 0.3 seconds a word."""
    async with playing(Slow().answer) as model, anyio.create_task_group() as group:
        environment = {"DSPEX_MODEL": "openai/m", "DSPEX_BASE_URL": model.url}
        worker = Worker(client.bus, native_handlers(Models(environment)), WorkerConfig(pool="slow", drain_s=0.1))
        await group.start(worker.run)
        yield model
        group.cancel_scope.cancel()


def slowly() -> Any:
    return dspex.pipeline([dspex.native("predict", signature="question -> answer", pool="slow")])


async def test_words_are_there_while_the_model_still_writes(
    running: RunningSystem, client: dspex.Client, raw: Nats, slow: ScriptedServer
) -> None:
    """For our client, and for any that subscribes."""
    heard: list[tuple[str, dict[str, Any]]] = []

    async def hear(message: Any) -> None:
        heard.append((message.subject, json.loads(message.data)))

    await raw.subscribe(subjects.session_tokens("slow-words"), cb=hear)
    await raw.flush()
    came: list[tuple[float, str]] = []
    async for item in client.stream(slowly(), {"question": "?"}, tokens=True, session="slow-words"):
        if isinstance(item, dspex.TokenEvent) and isinstance(item.message, dspex.TokenPiece):
            came.append((time.monotonic(), item.message.text))
    assert [text for _, text in came] == ["one", " two", " three"]
    assert came[2][0] - came[0][0] > 0.4
    assert {subject for subject, _ in heard} == {subjects.token_stream("slow-words", "0", 1)}
    assert [said["type"] for _, said in heard] == ["started", "piece", "piece", "piece", "ended"]
    assert [said["sequence"] for _, said in heard] == [0, 1, 2, 3, 4]


async def test_cancelling_stops_the_model_and_ends_the_stream(client: dspex.Client, slow: ScriptedServer) -> None:
    handle = await client.submit(slowly(), {"question": "?"}, stream=True)
    said = []
    async for told in handle.tokens():
        said.append(told.message)
        if isinstance(told.message, dspex.TokenPiece):
            await handle.cancel()
    assert isinstance(said[-1], dspex.TokensEnded)
    assert said[-1].status == "cancelled"
    assert sum(isinstance(message, dspex.TokenPiece) for message in said) < 3
    with anyio.fail_after(2):
        while slow.running:
            await anyio.sleep(0.01)
