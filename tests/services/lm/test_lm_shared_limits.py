"""Limits that real worker processes share, natively and in DSPy: the model's server sees no more than they allow."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from scripted_server import Answer, ScriptedServer, Seen, playing

from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.errors import DspexError
from dspex_bus.streams import buckets, streams
from dspex_bus.wire import StepFailed, StepSucceeded, Task, decode_outcome, encode
from dspex_services.lm import Configured, LMBadRequest, LMClient, LMRequest
from dspex_services.worker.spec import DSPY, NATIVE, PoolSpec

pytestmark = pytest.mark.anyio

MODEL = "openai/m"


class Limited:
    """A model's server that notes when it was asked, and workers that ask it."""

    def __init__(self, stack: AsyncExitStack, folder: Path, url: str, bus: NatsBus, call_s: float) -> None:
        self._stack = stack
        self._folder = folder
        self._url = url
        self.bus = bus
        self.call_s = call_s
        self.times: list[float] = []
        self.lm: ScriptedServer

    def script(self, number: int, seen: Seen) -> Answer:
        self.times.append(time.monotonic())
        body = {"choices": [{"message": {"content": "[[ ## answer ## ]]\nHello.\n\n[[ ## completed ## ]]"},
                             "finish_reason": "stop"}],
                "model": "served", "usage": {"prompt_tokens": 60, "completion_tokens": 40}}  # fmt: skip
        return Answer([self.call_s, json.dumps(body).encode()])

    async def worker(self, pool: str, handlers: str, shared: dict[str, Any]) -> Process:
        table = self._folder / "models.json"
        table.write_text(json.dumps({MODEL: {"shared": shared}}))
        spec = PoolSpec(pool=pool, handlers=(handlers,), slots=32)
        arguments = ("-m", "dspex_services.worker", self._url, msgspec.json.encode(spec).decode(), str(os.getpid()))
        named = {"DSPEX_BASE_URL": self.lm.url, "DSPEX_MODEL": MODEL, "DSPEX_MODELS": str(table)}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, env={**os.environ, **named}, stdout=asyncio.subprocess.PIPE
        )
        self._stack.push_async_callback(_ended, process)
        assert process.stdout is not None
        assert (await asyncio.wait_for(process.stdout.readline(), 30)).startswith(b"ready")
        return process

    async def workers(self, shared: dict[str, Any], *pools: tuple[str, str]) -> list[Process]:
        return list(await asyncio.gather(*(self.worker(pool, handlers, shared) for pool, handlers in pools)))

    async def ask(self, pool: str, handler: str, timeout_s: float = 30.0) -> StepSucceeded | StepFailed:
        task = Task(
            session="s", node="0", attempt=1, partition=0, handler=handler, options={"signature": "question -> answer"},
            inputs={"question": "Hi?"}, timeout_ms=int(timeout_s * 1000),
            deadline_ms=int((time.time() + timeout_s) * 1000),
        )  # fmt: skip
        answer = await self.bus.request(subjects.now(pool, handler), encode(task), timeout_s=timeout_s + 1)
        outcome = decode_outcome(answer.data, subject=answer.subject)
        assert isinstance(outcome, StepSucceeded | StepFailed)
        return outcome

    def most_within(self, span_s: float) -> int:
        """The most calls that began within any stretch of that length."""
        return max(sum(begin <= at < begin + span_s for at in self.times) for begin in self.times)


async def _ended(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
    await asyncio.wait_for(process.wait(), 20)


@pytest.fixture
async def limited(tmp_path: Path) -> AsyncIterator[Limited]:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer())
        bus = await stack.enter_async_context(NatsBus(server.url, name="test"))
        await bus.prepare(streams(), buckets())
        found = Limited(stack, tmp_path, server.url, bus, 0.0)
        found.lm = await stack.enter_async_context(playing(found.script))
        yield found


NATIVES = [("native", NATIVE)] * 3


@pytest.mark.parametrize("dies", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_three_workers_keep_to_one_rate(limited: Limited, dies: bool) -> None:
    """Ten a second, and a second's worth at once, also when one dies with what it had borrowed."""
    first, *_ = await limited.workers({"requests_per_minute": 600}, *NATIVES)
    asked = [asyncio.create_task(limited.ask("native", "predict", timeout_s=5.0)) for _ in range(26)]
    if dies:
        while len(limited.times) < 12:
            await asyncio.sleep(0.01)
        first.send_signal(signal.SIGKILL)
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    answered = [outcome for outcome in outcomes if isinstance(outcome, StepSucceeded)]
    assert len({outcome.worker for outcome in answered}) == 3 or dies
    assert all(isinstance(outcome, StepSucceeded) or (dies and isinstance(outcome, DspexError)) for outcome in outcomes)
    assert limited.most_within(1.0) <= 10 + 10 + 2
    spread_s = limited.times[-1] - limited.times[0]
    assert spread_s >= (len(limited.times) - 10 - 2) / 10, "as one worker alone would have taken"
    assert spread_s < 4, "the others go on"


@pytest.mark.slow
async def test_slots_are_shared(limited: Limited) -> None:
    limited.call_s = 0.1
    await limited.workers({"concurrency": 4}, *NATIVES)
    outcomes = await asyncio.gather(*(limited.ask("native", "predict") for _ in range(24)))
    assert all(isinstance(outcome, StepSucceeded) for outcome in outcomes)
    assert len({outcome.worker for outcome in outcomes}) == 3
    assert limited.lm.most == 4


@pytest.mark.slow
async def test_slots_of_the_dead_come_back(limited: Limited) -> None:
    limited.call_s = 0.1
    first, *_ = await limited.workers({"concurrency": 4}, *NATIVES)
    asked = [asyncio.create_task(limited.ask("native", "predict", timeout_s=3.0)) for _ in range(40)]
    while limited.lm.running < 4:
        await asyncio.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    await asyncio.gather(*asked, return_exceptions=True)
    limited.lm.most = 0
    with anyio.fail_after(15):
        while limited.lm.most < 4:
            outcomes = await asyncio.gather(*(limited.ask("native", "predict") for _ in range(12)))
            assert all(isinstance(outcome, StepSucceeded) for outcome in outcomes)
    assert limited.lm.most == 4


@pytest.mark.slow
async def test_native_and_dspy_pools_share_tokens(limited: Limited) -> None:
    """100 tokens a call, and 1,200 a second."""
    pytest.importorskip("dspy")
    shared = {"name": "team", "tokens_per_minute": 72_000, "concurrency": 8}
    await limited.workers(shared, ("native", NATIVE), ("native", NATIVE), ("dspy", DSPY))
    asks = [("native", "predict"), ("dspy", "dspy.Predict")] * 30
    outcomes = await asyncio.gather(*(limited.ask(*ask) for ask in asks))
    assert all(isinstance(outcome, StepSucceeded) for outcome in outcomes)
    assert limited.lm.most <= 8
    assert limited.times[-1] - limited.times[0] >= 2.0, "6,000 tokens, of which a good second's worth at once"


async def test_a_call_without_room_before_its_deadline_is_refused_at_once(limited: Limited) -> None:
    await limited.workers({"requests_per_minute": 6}, ("native", NATIVE))
    assert isinstance(await limited.ask("native", "predict"), StepSucceeded)
    started = time.monotonic()
    outcome = await limited.ask("native", "predict", timeout_s=5.0)
    assert isinstance(outcome, StepFailed)
    assert outcome.error.code == "lm_rate_limited"
    assert 5 < outcome.error.details["retry_after_s"] <= 10
    assert time.monotonic() - started < 2
    assert len(limited.times) == 1


async def test_shared_limits_need_a_bus(limited: Limited, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text(json.dumps({MODEL: {"shared": {"concurrency": 1}}}))
    config = Configured({"DSPEX_BASE_URL": limited.lm.url, "DSPEX_MODELS": str(table)}).get(MODEL)
    assert config is not None
    async with LMClient(config, env={}) as lm:
        with pytest.raises(LMBadRequest, match="only a pool's workers"):
            await lm.complete(LMRequest(messages=[{"role": "user", "content": "Hi"}]))
    assert not limited.times
