"""The client over real HTTP, against the offline LM and the faults it commits on order."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from dspex_services.lm import (
    LMAuth,
    LMBadReply,
    LMBadRequest,
    LMClient,
    LMConfig,
    LMError,
    LMRateLimited,
    LMRequest,
    LMTimeout,
    LMUnavailable,
    SyncLMClient,
)
from dspex_services.offline_lm import MODEL

pytestmark = pytest.mark.anyio


class Echo:
    """A server that answers ``ok`` and remembers who asked, with which key."""

    def __init__(self) -> None:
        self.url = ""
        self.keys: list[str | None] = []
        self.peers: set[Any] = set()

    async def answer(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        self.keys.append(request.headers.get("Authorization"))
        self.peers.add(request.transport.get_extra_info("peername"))
        await request.read()
        return web.json_response({"choices": [{"message": {"content": "ok"}}]})


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    echo = Echo()
    app = web.Application()
    app.router.add_post("/chat/completions", echo.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    echo.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield echo
    await runner.cleanup()


ASK = LMRequest(messages=[{"role": "user", "content": "What is 6 * 7?"}])


def config(url: str, model: str = f"openai/{MODEL}", **values: Any) -> LMConfig:
    return LMConfig(model=model, base_url=url, **{"timeout_s": 10.0, "backoff_s": 0.001, **values})


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_reply_with_usage(offline_url: str, provider: str) -> None:
    async with LMClient(config(offline_url, f"{provider}/{MODEL}"), env={}) as lm:
        reply = await lm.complete(ASK)
    assert (reply.text, reply.model, reply.finish_reason) == ("42", MODEL, "stop")
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens == 1


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_reply_cut_by_its_limit_says_so(offline_url: str, provider: str) -> None:
    request = LMRequest(messages=[{"role": "user", "content": "Why Mars?"}], max_tokens=3)
    async with LMClient(config(offline_url, f"{provider}/{MODEL}"), env={}) as lm:
        reply = await lm.complete(request)
    assert reply.finish_reason == "length"
    assert len(reply.text.split()) == 3


async def test_anthropic_addresses_may_lack_the_version(offline_url: str) -> None:
    async with LMClient(config(offline_url.removesuffix("/v1"), f"anthropic/{MODEL}"), env={}) as lm:
        assert (await lm.complete(ASK)).text == "42"


async def test_structured_output(offline_url: str) -> None:
    schema = {"type": "object", "properties": {"total": {"type": "integer"}}}
    async with LMClient(config(offline_url), env={}) as lm:
        reply = await lm.complete(LMRequest(messages=ASK.messages, response_schema=schema))
    assert reply.text == '{"total": 42}'


@pytest.mark.parametrize("fault", ["429*2", "500*2", "503*1", "529*2", "garbage*1", "cut*2", "429@0*2"])
async def test_passing_faults_are_retried(offline_url: str, fault: str) -> None:
    async with LMClient(config(offline_url, f"openai/passing+{fault}"), env={}) as lm:
        assert (await lm.complete(ASK)).text == "42"


@pytest.mark.parametrize(
    ("fault", "kind", "attempts"),
    [
        ("429", LMRateLimited, 3),
        ("500", LMUnavailable, 3),
        ("cut", LMUnavailable, 3),
        ("garbage", LMBadReply, 3),
        ("400", LMBadRequest, 1),
        ("404", LMBadRequest, 1),
        ("401", LMAuth, 1),
    ],
)
async def test_lasting_faults_end_after_bounded_attempts(
    offline_url: str, fault: str, kind: type[LMError], attempts: int
) -> None:
    async with LMClient(config(offline_url, f"openai/lasting+{fault}"), env={}) as lm:
        with pytest.raises(kind) as caught:
            await lm.complete(ASK)
    assert caught.value.details["attempts"] == attempts


async def test_retry_after_is_waited_for(offline_url: str) -> None:
    async with LMClient(config(offline_url, "openai/asks+429@0.3*1"), env={}) as lm:
        start = time.monotonic()
        assert (await lm.complete(ASK)).text == "42"
    assert time.monotonic() - start >= 0.3


async def test_a_wait_past_the_deadline_is_not_begun(offline_url: str) -> None:
    async with LMClient(config(offline_url, "openai/asks+429@60"), env={}) as lm:
        start = time.monotonic()
        with pytest.raises(LMRateLimited) as caught:
            await lm.complete(ASK, timeout_s=5)
    assert time.monotonic() - start < 4
    assert caught.value.retry_after_s == 60


async def test_the_deadline_covers_a_slow_answer_and_the_client_lives_on(offline_url: str) -> None:
    async with LMClient(config(offline_url, "openai/late+slow@30*1"), env={}) as lm:
        with pytest.raises(LMTimeout, match=r"within 0\.2 s"):
            await lm.complete(ASK, timeout_s=0.2)
        assert (await lm.complete(ASK)).text == "42"


async def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with LMClient(config(url), env={}) as lm:
            with pytest.raises(LMUnavailable, match="DSPEX_BASE_URL") as caught:
                await lm.complete(ASK)
    assert caught.value.details["attempts"] == 3


async def test_cancelling_a_call_ends_it(offline_url: str) -> None:
    async with LMClient(config(offline_url, "openai/never+slow@30"), env={}) as lm:
        call = asyncio.create_task(lm.complete(ASK))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize(("model", "variable"), [("openai/m", "OPENAI_API_KEY"), ("anthropic/m", "ANTHROPIC_API_KEY")])
async def test_a_missing_key_is_said_before_anything_is_sent(model: str, variable: str) -> None:
    async with LMClient(LMConfig(model=model), env={}) as lm:
        with pytest.raises(LMAuth, match=variable):
            await lm.complete(ASK)


async def test_the_key_is_read_at_each_call(echo: Echo) -> None:
    env = {"OPENAI_API_KEY": "first"}
    async with LMClient(config(echo.url), env=env) as lm:
        await lm.complete(ASK)
        env["OPENAI_API_KEY"] = "second"
        await lm.complete(ASK)
    assert echo.keys == ["Bearer first", "Bearer second"]
    assert len(echo.peers) == 1, "both calls share a connection"


async def test_concurrent_calls_share_few_connections(echo: Echo) -> None:
    async with LMClient(config(echo.url, max_connections=4), env={}) as lm:
        replies = await asyncio.gather(*(lm.complete(ASK) for _ in range(40)))
    assert [reply.text for reply in replies] == ["ok"] * 40
    assert len(echo.peers) <= 4


async def test_a_client_that_was_not_entered_says_so(offline_url: str) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await LMClient(config(offline_url)).complete(ASK)


def test_the_sync_face(offline_url: str) -> None:
    with SyncLMClient(config(offline_url), env={}) as lm:
        assert [lm.complete(ASK).text for _ in range(3)] == ["42"] * 3
        with pytest.raises(LMBadRequest):
            lm.complete(LMRequest(messages=[{"role": "user", "content": 3}, "not a message"]))  # type: ignore[list-item]
