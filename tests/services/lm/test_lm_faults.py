"""The client against a server that plays back what providers send, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from scripted_server import Answer, Seen, playing

from dspex_services.lm import (
    Delta,
    Endpoints,
    LMBadReply,
    LMBadRequest,
    LMCircuitOpen,
    LMClient,
    LMConfig,
    LMContextTooLong,
    LMError,
    LMQuota,
    LMRateLimited,
    LMRequest,
    LMTimeout,
    LMUnavailable,
    Price,
)

pytestmark = pytest.mark.anyio

ASK = LMRequest(messages=[{"role": "user", "content": "Say hello."}])
JSON = ("Content-Type: application/json",)
EVENTS = ("Content-Type: text/event-stream; charset=utf-8",)

OPENAI_BODY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1752000000,"model":"gpt-4o-mini-2024-07-18","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"Hello!","refusal":null,"annotations":[]},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}'
)
ANTHROPIC_BODY = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"claude-haiku-4-5-20251001","content":[{"type":"text",'
    b'"text":"Hello!"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":3}}'
)


def _chunk(delta: str, finish: str = "null") -> bytes:
    choice = f'{{"index":0,"delta":{delta},"finish_reason":{finish}}}'
    return f'data: {{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{choice}]}}\n\n'.encode()


def _event(kind: str, rest: str) -> bytes:
    return f'event: {kind}\ndata: {{"type":"{kind}"{rest}}}\n\n'.encode()


def _text(text: str) -> bytes:
    return _event("content_block_delta", f',"index":0,"delta":{{"type":"text_delta","text":"{text}"}}')


OPENAI_STREAM = [
    _chunk('{"role":"assistant","content":"Hel"}'),
    _chunk('{"content":"lo!"}'),
    _chunk("{}", '"stop"'),
    b'data: {"id":"c","model":"m","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3}}\n\ndata: [DONE]\n\n',
]
ANTHROPIC_STREAM = [
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
    b'"model":"claude","content":[],"stop_reason":null,"usage":{"input_tokens":10,"output_tokens":1}}}\n\n',
    _event("content_block_start", ',"index":0,"content_block":{"type":"text","text":""}'),
    _text("Hel"),
    _text("lo!"),
    _event("message_delta", ',"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}')
    + _event("message_stop", ""),
]
WHOLE = {"openai": Answer([OPENAI_BODY]), "anthropic": Answer([ANTHROPIC_BODY])}
STREAMED = {"openai": OPENAI_STREAM, "anthropic": ANTHROPIC_STREAM}
both = pytest.mark.parametrize("provider", ["openai", "anthropic"])


def config(url: str, provider: str = "openai", **values: Any) -> LMConfig:
    return LMConfig(model=f"{provider}/m", base_url=url, **{"timeout_s": 10.0, "backoff_s": 0.001, **values})


KEYS = {"OPENAI_API_KEY": "sk-secret", "ANTHROPIC_API_KEY": "sk-secret"}


class Heard:
    """What came of a stream, piece by piece."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []

    async def __call__(self, delta: Delta) -> None:
        self.deltas.append(delta)

    @property
    def text(self) -> list[str]:
        return [delta.text for delta in self.deltas if delta.text]


@both
@pytest.mark.parametrize(
    "fault",
    [
        Answer([b'{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}'],
               "429 Too Many Requests", (*JSON, "Retry-After: 0", "x-ratelimit-remaining-requests: 0")),
        Answer([b'{"error":{"message":"The server had an error","type":"server_error"}}'], "500 Internal Server Error"),
        Answer([b"<html><h1>502 Bad Gateway</h1></html>"], "502 Bad Gateway", ("Content-Type: text/html",)),
        Answer([b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'], "529 Overloaded"),
        Answer([b'{"id":"chatcmpl-1","choi'], cut=True),
        Answer([b'{"id":"chatcmpl-1","choi']),
        Answer([b"not json"]),
        Answer([], cut=True),
    ],
    ids=["429", "500", "502 html", "529", "cut body", "half a body", "garbage", "no body"],
)  # fmt: skip
async def test_what_passes_is_tried_again(provider: str, fault: Answer) -> None:
    async with (
        playing([fault, WHOLE[provider]]) as server,
        LMClient(config(server.url, provider), env={}) as lm,
    ):
        assert (await lm.complete(ASK)).text == "Hello!"
    assert len(server.seen) == 2


@both
@pytest.mark.parametrize("provider_body", ["whole", "trickling"])
async def test_a_body_in_many_pieces(provider: str, provider_body: str) -> None:
    (body,) = WHOLE[provider].pieces
    assert isinstance(body, bytes)
    pieces = [body[at : at + 5] for at in range(0, len(body), 5)] if provider_body == "trickling" else [body]
    async with playing([Answer(pieces)]) as server, LMClient(config(server.url, provider), env={}) as lm:
        assert (await lm.complete(ASK)).text == "Hello!"


@both
async def test_a_slow_body_is_cut_off_at_the_deadline(provider: str) -> None:
    async with (
        playing([Answer([b"{", 30.0, b"}"])]) as server,
        LMClient(config(server.url, provider), env={}) as lm,
    ):
        start = time.monotonic()
        with pytest.raises(LMTimeout, match=r"within 0\.2 s"):
            await lm.complete(ASK, timeout_s=0.2)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("400 Bad Request", b'{"error":{"message":"This model\'s maximum context length is 128000 tokens.",'
         b'"type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}', LMContextTooLong),
        ("400 Bad Request", b'{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: '
         b'210000 tokens > 200000 maximum"}}', LMContextTooLong),
        ("429 Too Many Requests", b'{"error":{"message":"You exceeded your current quota","type":"insufficient_quota",'
         b'"param":null,"code":"insufficient_quota"}}', LMQuota),
        ("400 Bad Request", b'{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance '
         b'is too low to access the Anthropic API."}}', LMQuota),
    ],
)  # fmt: skip
async def test_refusals_that_no_retry_can_help(status: str, body: bytes, kind: type[LMError]) -> None:
    async with playing([Answer([body], status)]) as server, LMClient(config(server.url), env={}) as lm:
        with pytest.raises(kind) as caught:
            await lm.complete(ASK)
    assert len(server.seen) == 1
    assert not caught.value.retryable


@both
@pytest.mark.parametrize("status", ["301 Moved Permanently", "307 Temporary Redirect"])
async def test_no_call_and_no_key_goes_on_to_another_address(provider: str, status: str) -> None:
    async with playing([WHOLE[provider]]) as elsewhere:
        moved = Answer([], status, (*JSON, f"Location: {elsewhere.url}/x"))
        async with playing([moved]) as server, LMClient(config(server.url, provider), env=KEYS) as lm:
            with pytest.raises(LMBadRequest, match=f"sends calls on to {elsewhere.url}/x"):
                await lm.complete(ASK)
        assert not elsewhere.seen


@both
@pytest.mark.parametrize(
    "answer",
    [
        Answer([b'{"error":{"message":"Incorrect API key provided: sk-secret"}}'], "401 Unauthorized"),
        Answer([b'{"error":{"message":"no such thing as sk-secret","code":400}}']),
        Answer([b"sk-secret is all I was given"]),
    ],
    ids=["refused", "as a success", "garbage"],
)
async def test_no_error_shows_the_key(provider: str, answer: Answer) -> None:
    async with playing([answer]) as server, LMClient(config(server.url, provider, max_attempts=1), env=KEYS) as lm:
        with pytest.raises(LMError) as caught:
            await lm.complete(ASK)
    assert "sk-secret" not in f"{caught.value} {caught.value.details}"
    assert "…" in caught.value.message


@pytest.mark.parametrize(
    ("error", "kind", "calls"),
    [
        ('{"message":"slow down","code":429}', LMRateLimited, 2),
        ('{"message":"no","code":"rate_limit_exceeded"}', LMRateLimited, 2),
        ('{"message":"no","code":"insufficient_quota"}', LMQuota, 1),
        ('{"message":"unknown field","code":400}', LMBadRequest, 1),
        ('"broken"', LMUnavailable, 2),
    ],
)
async def test_an_error_that_comes_as_a_success_is_that_error(error: str, kind: type[LMError], calls: int) -> None:
    answer = Answer([f'{{"error":{error}}}'.encode()])
    async with playing([answer]) as server, LMClient(config(server.url, max_attempts=2), env={}) as lm:
        with pytest.raises(kind):
            await lm.complete(ASK)
    assert len(server.seen) == calls


@both
async def test_a_stream_is_over_with_its_last_event_whatever_the_server_does_then(provider: str) -> None:
    more = [30.0] if provider == "anthropic" else [_chunk('{"content":"more"}'), 30.0]
    heard = Heard()
    async with (
        playing([Answer([*STREAMED[provider], *more], headers=EVENTS)]) as server,
        LMClient(config(server.url, provider), env={}) as lm,
        asyncio.timeout(5),
    ):
        assert (await lm.complete(ASK, on_delta=heard)).text == "Hello!"
    assert heard.text == ["Hel", "lo!"]


@both
async def test_a_stream(provider: str) -> None:
    heard = Heard()
    async with (
        playing([Answer(STREAMED[provider], headers=EVENTS)]) as server,
        LMClient(config(server.url, provider), env={}) as lm,
    ):
        reply = await lm.complete(ASK, on_delta=heard)
    assert heard.text == ["Hel", "lo!"]
    assert (reply.text, reply.finish_reason) == ("Hello!", "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (10, 3)
    assert server.seen[0].body["stream"] is True


@both
async def test_pieces_are_heard_before_the_stream_ends(provider: str) -> None:
    first, *rest = STREAMED[provider][-4:-2] if provider == "openai" else STREAMED[provider][:3]
    heard, arrived = Heard(), asyncio.Event()

    async def hear(delta: Delta) -> None:
        await heard(delta)
        arrived.set()

    async with (
        playing([Answer([first, *rest, 60.0], headers=EVENTS)]) as server,
        LMClient(config(server.url, provider), env={}) as lm,
    ):
        call = asyncio.create_task(lm.complete(ASK, on_delta=hear))
        await asyncio.wait_for(arrived.wait(), 5)
        assert heard.text[0] == "Hel"
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@both
async def test_a_stream_that_is_cut_after_it_began_is_not_begun_again(provider: str) -> None:
    heard = Heard()
    begun = Answer(STREAMED[provider][:3][: 1 if provider == "openai" else 3], headers=EVENTS, cut=True)
    async with playing([begun]) as server, LMClient(config(server.url, provider), env={}) as lm:
        with pytest.raises(LMUnavailable) as caught:
            await lm.complete(ASK, on_delta=heard)
    assert heard.text == ["Hel"]
    assert len(server.seen) == 1
    assert caught.value.retryable, "the step may be tried again, as another attempt"


@both
async def test_a_stream_that_ends_too_soon_without_an_error_is_one(provider: str) -> None:
    begun = Answer(STREAMED[provider][: 1 if provider == "openai" else 3], headers=EVENTS)
    async with playing([begun]) as server, LMClient(config(server.url, provider), env={}) as lm:
        with pytest.raises(LMUnavailable, match="cut before its end"):
            await lm.complete(ASK, on_delta=Heard())


async def test_a_stream_that_never_began_is_tried_again() -> None:
    failing = Answer([b'{"error":{"message":"busy"}}'], "503 Service Unavailable")
    heard = Heard()
    async with (
        playing([failing, Answer([], headers=EVENTS, cut=True), Answer(OPENAI_STREAM, headers=EVENTS)]) as server,
        LMClient(config(server.url), env={}) as lm,
    ):
        assert (await lm.complete(ASK, on_delta=heard)).text == "Hello!"
    assert heard.text == ["Hel", "lo!"]


async def test_garbage_in_a_stream() -> None:
    answer = Answer([b"data: <html>\n\n"], headers=EVENTS)
    async with playing([answer]) as server, LMClient(config(server.url, max_attempts=1), env={}) as lm:
        with pytest.raises(LMBadReply):
            await lm.complete(ASK, on_delta=Heard())


async def test_a_server_that_does_not_stream_is_heard_all_the_same() -> None:
    heard = Heard()
    async with playing([WHOLE["openai"]]) as server, LMClient(config(server.url), env={}) as lm:
        assert (await lm.complete(ASK, on_delta=heard)).text == "Hello!"
    assert heard.text == ["Hello!"]


async def test_a_listener_that_fails_ends_the_call() -> None:
    async def hear(delta: Delta) -> None:
        raise LookupError("nobody wants it")

    async with playing([Answer(OPENAI_STREAM, headers=EVENTS)]) as server, LMClient(config(server.url), env={}) as lm:
        with pytest.raises(LookupError):
            await lm.complete(ASK, on_delta=hear)
    assert len(server.seen) == 1


async def test_no_more_calls_at_once_than_allowed() -> None:
    slow = Answer([0.02, OPENAI_BODY])
    async with playing([slow]) as server, LMClient(config(server.url, max_concurrent=3), env={}) as lm:
        await asyncio.gather(*(lm.complete(ASK) for _ in range(12)))
    assert server.most == 3


async def test_clients_with_common_endpoints_share_their_limits() -> None:
    shared, slow = Endpoints(), Answer([0.02, OPENAI_BODY])
    async with playing([slow]) as server:
        settings = config(server.url, max_concurrent=2)
        async with (
            LMClient(settings, env={}, endpoints=shared) as one,
            LMClient(settings, env={}, endpoints=shared) as other,
        ):
            await asyncio.gather(*(lm.complete(ASK) for lm in (one, other) for _ in range(5)))
    assert server.most == 2


async def test_a_call_that_never_gets_its_turn_says_so() -> None:
    async with (
        playing([Answer([30.0])]) as server,
        LMClient(config(server.url, max_concurrent=1), env={}) as lm,
    ):
        first = asyncio.create_task(lm.complete(ASK))
        while not server.running:
            await asyncio.sleep(0.005)
        with pytest.raises(LMTimeout, match="busy with 1 other calls"):
            await lm.complete(ASK, timeout_s=0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    assert len(server.seen) == 1


async def test_requests_keep_to_their_rate() -> None:
    async with (
        playing([WHOLE["openai"]]) as server,
        LMClient(config(server.url, requests_per_minute=600), env={}) as lm,
    ):
        start = time.monotonic()
        await asyncio.gather(*(lm.complete(ASK) for _ in range(13)))
    assert time.monotonic() - start >= 0.29, "ten at once, then one every tenth of a second"


async def test_tokens_keep_to_their_rate() -> None:
    large = OPENAI_BODY.replace(b'"prompt_tokens":10', b'"prompt_tokens":2000')
    async with (
        playing([Answer([large])]) as server,
        LMClient(config(server.url, tokens_per_minute=60_000), env={}) as lm,
    ):
        start = time.monotonic()
        for _ in range(2):
            await lm.complete(ASK)
    assert time.monotonic() - start >= 0.9, "two thousand tokens take a second beyond the first second's burst"


async def test_a_turn_past_the_deadline_is_refused_at_once() -> None:
    async with (
        playing([WHOLE["openai"]]) as server,
        LMClient(config(server.url, requests_per_minute=1), env={}) as lm,
    ):
        await lm.complete(ASK)
        start = time.monotonic()
        with pytest.raises(LMRateLimited, match="at its limit") as caught:
            await lm.complete(ASK, timeout_s=5)
    assert time.monotonic() - start < 2
    assert 50 < (caught.value.retry_after_s or 0) <= 60
    assert len(server.seen) == 1


async def test_a_server_that_asks_for_a_pause_gets_it_from_every_call() -> None:
    def script(number: int, seen: Seen) -> Answer:
        if number == 0:
            return Answer([b'{"error":{"message":"slow down"}}'], "429 Too Many Requests", (*JSON, "Retry-After: 0.4"))
        return WHOLE["openai"]

    async with playing(script) as server, LMClient(config(server.url), env={}) as lm:
        start = time.monotonic()
        first = asyncio.create_task(lm.complete(ASK))
        while not server.seen or server.running:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)
        await asyncio.gather(first, lm.complete(ASK))
        assert time.monotonic() - start >= 0.4
    assert len(server.seen) == 3


async def test_a_server_that_keeps_failing_is_left_alone_and_then_probed() -> None:
    healthy = asyncio.Event()

    def script(number: int, seen: Seen) -> Answer:
        return WHOLE["openai"] if healthy.is_set() else Answer([b"{}"], "500 Internal Server Error")

    settings = {"breaker_failures": 3, "breaker_s": 0.3, "max_attempts": 1}
    async with playing(script) as server, LMClient(config(server.url, **settings), env={}) as lm:
        for _ in range(3):
            with pytest.raises(LMUnavailable):
                await lm.complete(ASK)
        with pytest.raises(LMCircuitOpen) as caught:
            await lm.complete(ASK)
        assert len(server.seen) == 3, "the open circuit spared the server"
        assert caught.value.retryable
        assert 0 < (caught.value.retry_after_s or 0) <= 0.3
        healthy.set()
        await asyncio.sleep(0.35)  # the time for which it is left alone
        assert (await lm.complete(ASK)).text == "Hello!"
        await asyncio.gather(*(lm.complete(ASK) for _ in range(5)))


async def test_refusals_do_not_open_the_circuit() -> None:
    refusal = Answer([b'{"error":{"message":"no"}}'], "400 Bad Request")
    async with playing([refusal]) as server, LMClient(config(server.url, breaker_failures=2), env={}) as lm:
        for _ in range(5):
            with pytest.raises(LMError, match="refused the request"):
                await lm.complete(ASK)
    assert len(server.seen) == 5


async def test_an_open_circuit_is_waited_for_within_the_deadline() -> None:
    answers = [Answer([b"{}"], "500 Internal Server Error"), WHOLE["openai"]]
    settings = {"breaker_failures": 1, "breaker_s": 0.1, "backoff_s": 0.0}
    async with playing(answers) as server, LMClient(config(server.url, **settings), env={}) as lm:
        assert (await lm.complete(ASK)).text == "Hello!"


async def test_the_cost_is_what_the_operators_price_makes_of_the_tokens() -> None:
    async with playing([WHOLE["openai"]]) as server:
        async with LMClient(config(server.url, price=Price(input=2.0, output=10.0)), env={}) as lm:
            assert (await lm.complete(ASK)).cost == pytest.approx(10 * 2e-6 + 3 * 10e-6)
        async with LMClient(config(server.url), env={}) as lm:
            assert (await lm.complete(ASK)).cost is None


@both
async def test_one_connection_serves_call_after_call(provider: str) -> None:
    async with playing([WHOLE[provider]]) as server, LMClient(config(server.url, provider), env={}) as lm:
        for _ in range(5):
            await lm.complete(ASK)
        await lm.complete(ASK, on_delta=Heard())
    assert server.connections == 1


async def test_an_operators_variable_names_the_key() -> None:
    async with (
        playing([WHOLE["openai"]]) as server,
        LMClient(config(server.url, key_variable="MY_KEY"), env={"MY_KEY": "secret", "OPENAI_API_KEY": "other"}) as lm,
    ):
        await lm.complete(ASK)
    assert server.seen[0].headers["authorization"] == "Bearer secret"
