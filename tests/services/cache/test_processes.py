"""The cache among real worker processes: equal predictions make one call to the model, equal steps run once."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
from scripted_server import Answer, ScriptedServer, Seen, playing

from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.streams import buckets, streams
from dspex_bus.wire import StepOutcome, StepSucceeded, Task, decode_outcome, encode
from dspex_services.cache.asking import reports
from dspex_services.worker.spec import NATIVE, PoolSpec

pytestmark = pytest.mark.anyio

WORKERS = 3
HELLO = b"[[ ## answer ## ]]\nHello.\n\n[[ ## completed ## ]]"


def script(number: int, seen: Seen) -> Answer:
    body = {"choices": [{"message": {"content": HELLO.decode()}, "finish_reason": "stop"}], "model": "served",
            "usage": {"prompt_tokens": 7, "completion_tokens": 5}}  # fmt: skip
    return Answer([0.3, json.dumps(body).encode()])


@asynccontextmanager
async def worker(url: str, lm: str) -> AsyncIterator[None]:
    spec = PoolSpec(pool="native", handlers=(NATIVE,), slots=32)
    arguments = ("-m", "dspex_services.worker", url, msgspec.json.encode(spec).decode(), str(os.getpid()))
    environment = {**os.environ, "DSPEX_BASE_URL": lm, "DSPEX_MODEL": "openai/m"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert (await asyncio.wait_for(process.stdout.readline(), 20)).startswith(b"ready")
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


class Pool:
    def __init__(self, bus: NatsBus, lm: ScriptedServer) -> None:
        self.bus = bus
        self.lm = lm

    async def ask(
        self, handler: str, options: dict[str, Any], inputs: dict[str, Any], cache_ms: int = 0
    ) -> StepOutcome:
        task = Task(
            session="s",
            node="0",
            attempt=1,
            partition=0,
            handler=handler,
            options=options,
            inputs=inputs,
            timeout_ms=20_000,
            deadline_ms=int(time.time() * 1000) + 20_000,
            cache_ms=cache_ms,
        )
        answer = await self.bus.request(subjects.now("native", handler), encode(task), timeout_s=20)
        return decode_outcome(answer.data, subject=answer.subject)


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer())
        bus = await stack.enter_async_context(NatsBus(server.url, name="test"))
        await bus.prepare(streams(), buckets())
        lm = await stack.enter_async_context(playing(script))
        await asyncio.gather(*(stack.enter_async_context(worker(server.url, lm.url)) for _ in range(WORKERS)))
        yield Pool(bus, lm)


@pytest.mark.parametrize("how", ["call", "step"])
async def test_equal_predictions_make_one_call_among_all_processes(pool: Pool, how: str) -> None:
    options = {"signature": "question -> answer", **({"cache": True} if how == "call" else {})}
    cache_ms = 60_000 if how == "step" else 0
    asked = [pool.ask("predict", options, {"question": "Hi?"}, cache_ms) for _ in range(30)]
    outcomes = await asyncio.gather(*asked)
    answered = [outcome for outcome in outcomes if isinstance(outcome, StepSucceeded)]
    assert [outcome.outputs for outcome in answered] == [{"answer": "Hello."}] * 30
    assert len({outcome.worker for outcome in answered}) == WORKERS, "every process had its share of them"
    assert len(pool.lm.seen) == 1
    usages = [outcome.usage for outcome in answered if outcome.usage]
    assert sum(usage.input_tokens for usage in usages) == 7
    if how == "call":
        assert sum(usage.saved_calls for usage in usages) == 29
    else:
        assert sum(outcome.cached for outcome in answered) == 29
    found = await reports(pool.bus, wait_s=0.5)
    assert sum(report.misses for report in found) == 1
    assert len(found) == WORKERS
