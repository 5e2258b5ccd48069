"""The offline LM's HTTP face: what clients of either protocol other than ours see."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from dspex_services.offline_lm import MODEL, OfflineLM, answer, main

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "Leases last ten seconds.\n\nHow long do leases last?"}]
TEXT = "Leases last ten seconds."


@pytest.fixture
async def http(offline_url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(offline_url + "/") as session:
        yield session


def events(body: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_the_server_answers_as_the_function_does(http: aiohttp.ClientSession) -> None:
    async with http.post("chat/completions", json={"model": "any", "messages": MESSAGES}) as response:
        body = await response.json()
    assert body["choices"][0]["message"]["content"] == answer(MESSAGES) == TEXT
    assert body["model"] == MODEL
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 4


async def test_chat_streams_its_words_its_end_and_its_usage(http: aiohttp.ClientSession) -> None:
    asked = {"messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
    async with http.post("chat/completions", json=asked) as response:
        assert response.content_type == "text/event-stream"
        found = events(await response.text())
    assert found[-1] == "[DONE]"
    assert found[-2]["usage"]["completion_tokens"] == 4
    deltas = [event["choices"][0] for event in found[:-2]]
    assert "".join(delta["delta"].get("content", "") for delta in deltas) == TEXT
    assert deltas[-1]["finish_reason"] == "stop"


async def test_messages_stream_in_their_protocol(http: aiohttp.ClientSession) -> None:
    asked = {"messages": MESSAGES, "max_tokens": 100, "stream": True, "system": "Be exact."}
    async with http.post("messages", json=asked) as response:
        found = events(await response.text())
    assert [event["type"] for event in found[:2]] == ["message_start", "content_block_start"]
    assert "".join(event["delta"]["text"] for event in found if event["type"] == "content_block_delta") == TEXT
    assert [event["type"] for event in found[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    assert found[-2]["delta"]["stop_reason"] == "end_turn"
    assert found[-2]["usage"]["output_tokens"] == 4


async def test_embeddings(http: aiohttp.ClientSession) -> None:
    async with http.post("embeddings", json={"input": ["a lease", "leases", "rain"], "dimensions": 32}) as response:
        vectors = [item["embedding"] for item in (await response.json())["data"]]
    assert vectors[0] == vectors[1] != vectors[2]
    assert {len(vector) for vector in vectors} == {32}


async def test_models(http: aiohttp.ClientSession) -> None:
    async with http.get("models") as response:
        assert [model["id"] for model in (await response.json())["data"]] == [MODEL]


@pytest.mark.parametrize("path", ["chat/completions", "messages", "embeddings"])
@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[]", b'{"messages": 3, "input": 3}', b"\xff"])
async def test_malformed_requests_are_refused(http: aiohttp.ClientSession, path: str, body: bytes) -> None:
    async with http.post(path, data=body) as response:
        assert response.status == 400
        assert "malformed request" in (await response.json())["error"]["message"]


async def test_two_servers_at_once_and_a_port_is_freed() -> None:
    async with OfflineLM() as one, OfflineLM() as two:
        assert one.base_url != two.base_url
        port = int(one.base_url.split(":")[2].split("/")[0])
    async with OfflineLM(port=port) as again:
        assert str(port) in again.base_url
    with pytest.raises(RuntimeError, match="not running"):
        _ = again.base_url


async def test_main_prints_its_address_and_runs_until_cancelled(capsys: pytest.CaptureFixture[str]) -> None:
    serving = asyncio.create_task(main())
    async with asyncio.timeout(5):
        while not (printed := capsys.readouterr().out):
            await asyncio.sleep(0.01)
    async with aiohttp.ClientSession() as session, session.get(f"{printed.strip()}/models") as response:
        assert response.ok
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
