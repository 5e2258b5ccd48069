"""Replies of models, kept: by native calls and by DSPy's."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from anyio.from_thread import start_blocking_portal
from scripted_server import Answer, ScriptedServer, Seen, playing

from dspex_bus import MemoryBus
from dspex_bus.streams import buckets
from dspex_services.cache import Cache
from dspex_services.lm import (
    Caching,
    Configured,
    Delta,
    LMClient,
    LMConfig,
    LMError,
    LMReply,
    LMRequest,
    LMTimeout,
    complete,
    ttl_of,
)

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

pytestmark = pytest.mark.anyio

ASK = LMRequest(messages=[{"role": "user", "content": "Say hello."}])


def numbered(number: int, finish: str = "stop") -> Answer:
    body = {
        "model": "served",
        "choices": [{"message": {"content": f"reply {number}"}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3},
    }
    return Answer([json.dumps(body).encode()])


def counting(number: int, seen: Seen) -> Answer:
    return numbered(number)


@asynccontextmanager
async def a_cache() -> AsyncIterator[Cache]:
    async with MemoryBus() as bus:
        await bus.prepare([], buckets())
        async with Cache(bus) as cache:
            yield cache


@pytest.fixture
async def cache() -> AsyncIterator[Cache]:
    async with a_cache() as made:
        yield made


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with playing(counting) as made:
        yield made


@pytest.fixture
async def lm(server: ScriptedServer) -> AsyncIterator[LMClient]:
    async with LMClient(LMConfig(model="openai/m", base_url=server.url, backoff_s=0.001), env={}) as client:
        yield client


async def test_the_same_question_is_asked_once(lm: LMClient, cache: Cache, server: ScriptedServer) -> None:
    first, again = [await complete(lm, ASK, Caching(cache, 60)) for _ in range(2)]
    assert (first.text, first.cached, first.usage.input_tokens) == ("reply 0", False, 10)
    assert (again.text, again.cached, again.usage.total, again.cost) == ("reply 0", True, 0, None)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"request": msgspec.structs.replace(ASK, temperature=0.5)},
        {"request": msgspec.structs.replace(ASK, messages=[{"role": "user", "content": "Say goodbye."}])},
        {"program": "optimized"},
        {"rollout": 1},
    ],
)
async def test_another_question_is_another_call(
    lm: LMClient, cache: Cache, server: ScriptedServer, other: dict[str, Any]
) -> None:
    await complete(lm, ASK, Caching(cache, 60))
    request = other.pop("request", ASK)
    assert (await complete(lm, request, Caching(cache, 60, **other))).text == "reply 1"


async def test_a_call_may_bypass_or_renew(lm: LMClient, cache: Cache) -> None:
    await complete(lm, ASK, Caching(cache, 60))
    assert (await complete(lm, ASK, None)).text == "reply 1"
    assert (await complete(lm, ASK, Caching(cache, 60, renew=True))).text == "reply 2"
    assert (await complete(lm, ASK, Caching(cache, 60))).text == "reply 2"


async def test_equal_concurrent_calls_are_one(lm: LMClient, cache: Cache, server: ScriptedServer) -> None:
    replies = await asyncio.gather(*(complete(lm, ASK, Caching(cache, 60)) for _ in range(32)))
    assert {reply.text for reply in replies} == {"reply 0"}
    assert sum(reply.usage.input_tokens for reply in replies) == 10, "the tokens count once"
    assert len(server.seen) == 1


async def test_a_reply_that_was_cut_is_not_kept(cache: Cache) -> None:
    async with (
        playing(lambda number, _: numbered(number, "length")) as server,
        LMClient(LMConfig(model="openai/m", base_url=server.url), env={}) as lm,
    ):
        replies = [await complete(lm, ASK, Caching(cache, 60)) for _ in range(2)]
    assert [reply.text for reply in replies] == ["reply 0", "reply 1"]


async def test_a_kept_reply_is_heard_like_a_streamed_one(lm: LMClient, cache: Cache) -> None:
    await complete(lm, ASK, Caching(cache, 60))
    heard: list[Delta] = []

    async def hear(delta: Delta) -> None:
        heard.append(delta)

    await complete(lm, ASK, Caching(cache, 60), on_delta=hear)
    assert heard == [Delta(text="reply 0")]


async def test_a_caller_with_little_time_does_not_decide_for_the_others(cache: Cache) -> None:
    async with (
        playing(lambda number, _: Answer([0.4, *numbered(number).pieces])) as server,
        LMClient(LMConfig(model="openai/m", base_url=server.url), env={}) as lm,
    ):
        hasty = asyncio.create_task(complete(lm, ASK, Caching(cache, 60), timeout_s=0.1))
        await asyncio.sleep(0)
        patient = asyncio.create_task(complete(lm, ASK, Caching(cache, 60), timeout_s=10))
        ended = await asyncio.gather(hasty, patient, return_exceptions=True)
    assert isinstance(ended[0], LMTimeout)
    assert isinstance(ended[1], LMReply)


async def test_an_error_reaches_all_who_asked(cache: Cache) -> None:
    async with (
        playing([Answer([0.05, b"no"], "400 Bad Request")]) as server,
        LMClient(LMConfig(model="openai/m", base_url=server.url), env={}) as lm,
    ):
        calls = (complete(lm, ASK, Caching(cache, 60)) for _ in range(5))
        ended = await asyncio.gather(*calls, return_exceptions=True)
    assert [error.code for error in ended if isinstance(error, LMError)] == ["lm_bad_request"] * 5
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("wanted", "configured", "ttl"),
    [
        (None, None, None),
        (None, 60.0, 60.0),
        (False, 60.0, None),
        (0, 60.0, None),
        (True, None, 3600.0),
        (True, 60.0, 60.0),
        (5, 60.0, 5.0),
    ],
)
def test_how_long_a_reply_is_kept(wanted: Any, configured: float | None, ttl: float | None) -> None:
    assert ttl_of(wanted, LMConfig(cache_s=configured)) == ttl


# --- DSPy -----------------------------------------------------------------------------------------


@pytest.fixture
def engine_for(cache: Cache) -> Any:
    dspy = pytest.importorskip("dspy")
    from dspex_services.dspy.engine import Engine

    def make(url: str) -> Any:
        engine = Engine(Configured({"OPENAI_BASE_URL": url}))
        engine.cache = cache
        return engine

    assert dspy
    return make


@pytest.fixture
def threaded_server() -> Iterator[ScriptedServer]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(playing(counting)) as made:
        yield made


async def test_dspy_asks_the_same_question_once_from_tasks_and_threads(
    engine_for: Any, threaded_server: ScriptedServer
) -> None:
    from dspex_services.dspy.engine import Calling

    engine = engine_for(threaded_server.url)
    lm = engine.lm("openai/m")
    with engine.calling(Calling(ttl=60)):
        answers = await asyncio.gather(
            *(lm.acall("Hi") for _ in range(8)), *(asyncio.to_thread(lm, "Hi") for _ in range(8))
        )
        assert {answer[0] for answer in answers} == {"reply 0"}
    assert len(threaded_server.seen) == 1
    assert await lm.acall("Hi") == ["reply 1"], "outside, the operator's table decides, and says nothing"
    await engine.aclose()


async def test_the_tokens_of_kept_replies_are_not_counted_again(engine_for: Any, server: ScriptedServer) -> None:
    import dspy

    from dspex_services.dspy.engine import Calling

    engine = engine_for(server.url)
    lm = engine.lm("openai/m")
    with engine.calling(Calling(ttl=60)), dspy.track_usage() as counted:
        for _ in range(3):
            await lm.acall("Hi")
    assert counted.get_total_tokens()["openai/m"]["prompt_tokens"] == 10
    await engine.aclose()


async def test_samples_of_one_question_are_told_apart(engine_for: Any, server: ScriptedServer) -> None:
    from dspex_services.dspy.engine import Calling

    engine = engine_for(server.url)
    lm = engine.lm("openai/m", temperature=1.0)
    with engine.calling(Calling(ttl=60)):
        for _ in range(2):
            assert await lm.acall("Hi", rollout_id=1) == ["reply 0"]
            assert await lm.copy(rollout_id=2).acall("Hi") == ["reply 1"]
            assert await asyncio.to_thread(lm.copy(rollout_id=2), "Hi") == ["reply 1"]
            assert await lm.acall("Hi") == ["reply 2"]
    await engine.aclose()
