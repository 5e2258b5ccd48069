"""DSPy over our engine: the same answers as over its own, our limits, our errors."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from scripted_server import Answer, ScriptedServer, Seen, playing

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
dspy = pytest.importorskip("dspy")

from dspex_bus.errors import DspexError  # noqa: E402
from dspex_services.dspy.engine import Engine  # noqa: E402
from dspex_services.dspy.failures import translated  # noqa: E402
from dspex_services.lm import Configured  # noqa: E402
from dspex_services.offline_lm import OfflineLM  # noqa: E402

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore:Passing OpenAI-style:DeprecationWarning")]

TOOL_CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "search", "arguments": '{"query": "Oslo"}'},
}


def completion(**message: Any) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello.", **message},
                "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
            }
        ],
        "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
    }
    return json.dumps(body).encode()


HELLO = Answer([completion()])
ANTHROPIC = Answer(
    [
        b'{"id":"msg_1","type":"message","role":"assistant","model":"served","content":[{"type":"thinking","thinking":'
        b'"Hm.","signature":"s"},{"type":"text","text":"Hello."},{"type":"tool_use","id":"t1","name":"search","input":'
        b'{"query":"Oslo"}}],"stop_reason":"tool_use","usage":{"input_tokens":11,"output_tokens":4}}'
    ]
)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    made = Engine(Configured({}))
    yield made
    await made.aclose()


def at(url: str, table: dict[str, Any] | None = None, path: Path | None = None) -> Configured:
    """Both providers at one address, with an operator's table."""
    env = {"OPENAI_BASE_URL": url, "ANTHROPIC_BASE_URL": url}
    if path is not None:
        path.write_text(json.dumps(table))
        env["DSPEX_MODELS"] = str(path)
    return Configured(env)


@pytest.fixture
async def offline() -> AsyncIterator[str]:
    async with OfflineLM() as server:
        yield server.base_url


def dspys_own(model: str, url: str, **parameters: Any) -> Any:
    return dspy.LM(model, api_base=url, api_key="none", cache=False, num_retries=0, **parameters)


@pytest.mark.parametrize(
    ("model", "answer"),
    [
        ("openai/m", HELLO),
        ("openai/m", Answer([completion(reasoning_content="Hm.")])),
        ("openai/m", Answer([completion(content=None, tool_calls=[TOOL_CALL])])),
        ("anthropic/m", ANTHROPIC),
    ],
    ids=["text", "reasoning", "tool call", "anthropic"],
)
async def test_outputs_are_those_of_dspys_own_engine(model: str, answer: Answer) -> None:
    async with playing([answer]) as server:
        engine = Engine(at(server.url))
        outputs, usages = [], []
        for lm in (engine.lm(model), dspys_own(model, server.url)):
            with dspy.context(lm=lm), dspy.track_usage() as counted:
                outputs.append(await lm.acall(messages=[{"role": "user", "content": "Hi"}]))
                usages.append(counted.get_total_tokens()[model])
        await engine.aclose()
    assert outputs[0] == outputs[1]
    assert {name: usages[0][name] for name in ("prompt_tokens", "completion_tokens")} == {
        "prompt_tokens": 11,
        "completion_tokens": 4,
    }


MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "What is it?"},
                                 {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
    {"role": "assistant", "content": "I look.", "tool_calls": [TOOL_CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "A city."},
]  # fmt: skip
TOOLS = [{"type": "function", "function": {"name": "search", "description": "Find.", "parameters": {
    "type": "object", "properties": {"query": {"type": "string"}}}}}]  # fmt: skip


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"temperature": 0.0, "max_tokens": 50, "top_p": 0.5, "stop": ["END"]},
        {"seed": 3, "frequency_penalty": 0.5, "presence_penalty": 0.25},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {
            "name": "a", "schema": {"type": "object"}, "strict": True}}},
        {"messages": MESSAGES, "tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "search"}}},
        {"reasoning_effort": "low"},
        {"logit_bias": {"50256": -100}},
    ],
)  # fmt: skip
async def test_the_provider_is_sent_what_dspys_own_engine_sends(parameters: dict[str, Any]) -> None:
    asked = {"messages": [{"role": "user", "content": "Hi"}], **parameters}
    async with playing([HELLO]) as server:
        engine = Engine(at(server.url))
        await engine.lm("openai/m").acall(**asked)
        await dspys_own("openai/m", server.url).acall(**asked)
        await engine.aclose()
    ours, theirs = (seen.body for seen in server.seen)
    for body in (ours, theirs):  # two spellings of one thing
        body["limit"] = body.pop("max_completion_tokens", None) or body.pop("max_tokens", None)
        body["messages"] = [plain(message) for message in body["messages"]]
        for call in (call for message in body["messages"] for call in message.get("tool_calls", ())):
            call["function"]["arguments"] = json.loads(call["function"]["arguments"])
    assert ours == theirs


def plain(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if value is not None}


@pytest.mark.parametrize(
    ("status", "body", "code", "seen"),
    [
        ("401 Unauthorized", b'{"error":{"message":"Incorrect API key"}}', "lm_auth", 1),
        ("400 Bad Request", b'{"error":{"message":"no such parameter"}}', "lm_bad_request", 1),
        ("400 Bad Request", b'{"error":{"code":"context_length_exceeded","message":"long"}}', "lm_context_too_long", 1),
        ("429 Too Many Requests", b'{"error":{"code":"insufficient_quota","message":"pay"}}', "lm_quota", 1),
        ("429 Too Many Requests", b'{"error":{"message":"slow down"}}', "lm_rate_limited", 2),
        ("503 Service Unavailable", b"busy", "lm_unavailable", 2),
        ("200 OK", b"<html>", "lm_bad_reply", 2),
    ],
)
@pytest.mark.parametrize("blocking", [False, True])
async def test_errors_keep_our_codes_and_are_retried_once_only(
    tmp_path: Path, status: str, body: bytes, code: str, seen: int, blocking: bool
) -> None:
    async with playing([Answer([body], status)]) as server:
        engine = Engine(at(server.url, {"*": {"max_attempts": 2, "backoff_s": 0.001}}, tmp_path / "models.json"))
        lm = engine.lm("openai/m")
        with pytest.raises(DspexError) as caught, translated():
            await (asyncio.to_thread(lm, "Hi") if blocking else lm.acall("Hi"))
        await engine.aclose()
    assert caught.value.code == code
    assert len(server.seen) == seen


async def test_a_call_that_takes_too_long(tmp_path: Path) -> None:
    async with playing([Answer([30.0])]) as server:
        engine = Engine(at(server.url, {"*": {"timeout_s": 0.1}}, tmp_path / "models.json"))
        with pytest.raises(DspexError, match=r"within 0\.1 s") as caught, translated():
            await engine.lm("openai/m").acall("Hi")
        await engine.aclose()
    assert caught.value.code == "lm_timeout"


@pytest.mark.parametrize("model", ["openai/offline-extractive", "anthropic/offline-extractive"])
@pytest.mark.parametrize("adapter", ["ChatAdapter", "JSONAdapter", "XMLAdapter"])
async def test_modules_answer_as_over_dspys_own_engine(offline: str, model: str, adapter: str) -> None:
    engine = Engine(at(offline))
    inputs = {
        "context": ["The lease lasts 10 seconds.", "A beat comes every 5 seconds."],
        "question": "How long is the lease?",
    }
    signature = "context: list[str], question -> answer: str, seconds: int"
    answers = []
    for lm in (engine.lm(model), dspys_own(model, offline)):
        with dspy.context(lm=lm, adapter=getattr(dspy, adapter)()):
            answers.append((await dspy.ChainOfThought(signature).acall(**inputs)).toDict())
            answers.append(await asyncio.to_thread(lambda: dspy.ChainOfThought(signature)(**inputs).toDict()))
    await engine.aclose()
    assert answers[0]["seconds"] == 10
    assert all(answer == answers[0] for answer in answers)


async def test_tokens_are_streamed_to_dspys_listeners(offline: str) -> None:
    engine = Engine(at(offline))
    predict = dspy.Predict("context, question -> answer")
    with dspy.context(lm=engine.lm("openai/offline-extractive"), adapter=dspy.ChatAdapter()):
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        streamed = dspy.streamify(predict, stream_listeners=[listener])
        pieces, final = [], None
        async for item in streamed(
            context="The lease lasts ten long seconds.", question="How long does the lease last?"
        ):
            if isinstance(item, dspy.Prediction):
                final = item
            else:
                pieces.append(item.chunk)
    await engine.aclose()
    assert final is not None
    assert len(pieces) > 1
    assert "".join(pieces).strip() == final.answer


async def test_the_events_of_a_stream(offline: str) -> None:
    from dspy import lm15

    request = lm15.Request(model="openai/offline-extractive", messages=(lm15.Message.user("What is 6 * 7?"),))
    engine = Engine(at(offline))
    blocking = engine.lm(request.model).engine
    whole = await engine.complete(request)
    events = [event async for event in engine.stream(request)]
    assert events == await asyncio.to_thread(lambda: list(blocking.stream(request)))
    assert [event.type for event in events] == ["start", *["delta"] * (len(events) - 2), "end"]
    assert "".join(event.delta.text for event in events[1:-1]) == whole.message.text == "42"
    await engine.aclose()


async def test_a_stream_that_is_left_early_ends_its_call() -> None:
    first = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    async with playing([Answer([first, 60.0], headers=("Content-Type: text/event-stream",))]) as server:
        from dspy import lm15

        engine = Engine(at(server.url))
        events = engine.stream(lm15.Request(model="openai/m", messages=(lm15.Message.user("Hi"),)))
        assert [(await anext(events)).type for _ in range(2)] == ["start", "delta"]
        await events.aclose()  # type: ignore[attr-defined]
        await engine.aclose()


@pytest.fixture
def server_in_a_thread() -> Iterator[ScriptedServer]:
    """For tests that block the event loop themselves."""

    def script(number: int, seen: Seen) -> Answer:
        return Answer([0.02, completion()])

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(playing(script)) as server:
        yield server


def test_threads_share_the_models_limits(server_in_a_thread: ScriptedServer, tmp_path: Path) -> None:
    engine = Engine(at(server_in_a_thread.url, {"*": {"max_concurrent": 3}}, tmp_path / "models.json"))
    lm = engine.lm("openai/m")
    with ThreadPoolExecutor(12) as threads:
        assert set(threads.map(lambda _: lm("Hi")[0], range(48))) == {"Hello."}
    assert server_in_a_thread.most == 3
    assert server_in_a_thread.connections <= 12
    asyncio.run(engine.aclose())
    assert lm("Hi") == ["Hello."], "an engine that was closed opens again"
    asyncio.run(engine.aclose())


async def test_blocking_code_inside_a_running_loop_gets_its_answer(server_in_a_thread: ScriptedServer) -> None:
    engine = Engine(at(server_in_a_thread.url))
    assert engine.lm("openai/m")("Hi") == ["Hello."]
    await engine.aclose()


def test_closing_leaves_no_thread_and_no_connection(server_in_a_thread: ScriptedServer) -> None:
    before = threading.active_count()
    engine = Engine(at(server_in_a_thread.url))
    for _ in range(3):
        assert engine.lm("openai/m")("Hi") == ["Hello."]
    assert server_in_a_thread.connections == 1
    asyncio.run(engine.aclose())
    assert threading.active_count() == before


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "anthropic/claude-haiku-4-5", "openai/a-model-of-mine"])
async def test_what_dspy_knows_of_a_model_it_still_knows(engine: Engine, model: str) -> None:
    ours, theirs = engine.lm(model), dspy.LM(model, api_key="none")
    for name in ("supports_function_calling", "supports_reasoning", "supports_response_schema", "supported_params"):
        assert getattr(ours, name) == getattr(theirs, name), name


async def test_what_our_client_does_not_carry_goes_through_dspys_own_engine() -> None:
    scored = json.loads(completion())
    scored["choices"][0]["logprobs"] = {
        "content": [{"token": "Hello.", "logprob": -0.5, "bytes": None, "top_logprobs": []}]
    }
    async with playing([Answer([json.dumps(scored).encode()])]) as server:
        engine = Engine(at(server.url))
        (answer,) = await engine.lm("openai/m").acall("Hi", logprobs=True)
        await engine.aclose()
    assert answer["logprobs"]["content"][0]["logprob"] == -0.5
    assert server.seen[0].body["logprobs"] is True


async def test_a_copy_with_other_parameters_uses_the_same_engine() -> None:
    async with playing([HELLO]) as server:
        engine = Engine(at(server.url))
        await engine.lm("openai/m").copy(temperature=0.5, n=2).acall("Hi")
        await engine.aclose()
    assert [seen.body["temperature"] for seen in server.seen] == [0.5, 0.5]
