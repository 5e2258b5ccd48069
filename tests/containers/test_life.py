"""The system in containers over their lives: named models, the pool of optimizers, crashes, down and up again."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

import dspex

from .conftest import Stack, composed

pytestmark = [pytest.mark.anyio, pytest.mark.containers, pytest.mark.timeout(240)]

SERVICES = ("nats", "router", "native", "dspy", "optimize")
MODEL = "openai/named-here"
SIGNATURE = "context, question -> answer"
PEOPLE = ("Ada Lovelace", "Kurt Goedel", "Emmy Noether", "Alan Turing")
ROWS = [
    {"context": f"{person} made tool {place}.", "question": f"Who made tool {place}?", "answer": person}
    for place, person in enumerate(PEOPLE)
]
ASKED = {name: ROWS[0][name] for name in ("context", "question")}


@pytest.fixture(scope="module")
def stack(engine: Any) -> Iterator[Stack]:
    """Its model is a server of its own beside it, known to the containers by their environment alone."""
    settings = {"COMPOSE_PROFILES": "optimize", "DSPEX_MODEL": MODEL, "DSPEX_BASE_URL": "http://lm:8080/v1"}
    with composed(engine, **settings) as started:
        router = started.one("router")
        (network,) = router.attrs["NetworkSettings"]["Networks"]
        command = ["offline-lm", "--host", "0.0.0.0", "--port", "8080"]
        aliases = {network: engine.api.create_endpoint_config(aliases=["lm"])}
        labels = {"org.testcontainers": "true"}
        lm = engine.containers.create(
            router.image, command, network=network, networking_config=aliases, labels=labels, init=True
        )
        try:
            lm.start()
            yield started
        finally:
            lm.remove(force=True)


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[dspex.Client]:
    async with dspex.connect(stack.url) as connected:
        yield connected


async def answered(client: dspex.Client, module: Any, **inputs: str) -> dict[str, Any]:
    """A step's outputs, once the model's server and the pools are there."""
    pipeline = dspex.pipeline([module], name="asked")
    give_up_at = anyio.current_time() + 60
    while True:
        try:
            result = await client.run(pipeline, inputs, timeout_s=30)
        except dspex.DspexError:
            if anyio.current_time() > give_up_at:
                raise
            await anyio.sleep(0.5)
            continue
        assert result.output is not None
        return result.output


async def test_the_environment_names_the_model(client: dspex.Client) -> None:
    """In every pool, natively and in DSPy, and nobody else answers."""
    workers = [worker for pool in (await client.pools()).pools for worker in pool.workers]
    assert {worker.model for worker in workers} == {MODEL}
    predict = dspex.module("dspy.Predict", signature=SIGNATURE)
    native = dspex.native("predict", signature=SIGNATURE)
    for step in (predict, native):
        assert (await answered(client, step, **ASKED))["answer"] == "Ada Lovelace made tool 0."


async def test_an_optimizer_runs_in_its_container(client: dspex.Client) -> None:
    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    found = await client.optimize(
        module, ROWS, metric="contains", optimizer="bootstrap_random_search", num_candidate_programs=2, program="boxed"
    )
    assert (found.stopped, found.program) == ("", "boxed@1")
    assert "Ada" in (await answered(client, dspex.module("dspy.Program", program="boxed"), **ASKED))["answer"]


async def test_what_crashes_is_started_again(stack: Stack) -> None:
    """By Docker: the containers' first processes are killed, all at once, and nobody asks for others."""
    before = {service: restarted(stack, service)["Pid"] for service in SERVICES}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    with anyio.fail_after(60):
        for service, pid in before.items():
            while restarted(stack, service)["Pid"] in (0, pid):
                await anyio.sleep(0.1)
    await stack.until_healthy(*SERVICES)
    predict = dspex.module("dspy.Predict", signature=SIGNATURE)
    async with dspex.connect(stack.url) as anew:
        assert "Ada" in (await answered(anew, predict, **ASKED))["answer"]


def restarted(stack: Stack, service: str) -> dict[str, Any]:
    container = stack.one(service)
    container.reload()
    return dict(container.attrs["State"])


async def test_what_was_begun_goes_on_after_down_and_up(stack: Stack) -> None:
    """The volume stays, and with it what waits, what has ended, and programs."""
    waiting = dspex.pipeline([dspex.wait("approval"), dspex.native("template", template="by {{ by }}")], name="waiting")
    async with dspex.connect(stack.url) as client:
        ended = await client.run(dspex.pipeline([dspex.native("template", template="done")], name="done"), {})
        session = await client.submit(waiting, {}, timeout_s=600)
        with anyio.fail_after(30):
            while not (await session.view()).waiting_for:
                await anyio.sleep(0.05)
    stack.down()
    assert not stack.containers("nats")
    stack.run("up", "--detach", "--wait")
    async with dspex.connect(stack.url) as client:
        again = client.session(session.id)
        await again.signal("approval", {"by": "us"})
        assert (await again.result(timeout_s=60)).output == {"text": "by us"}
        assert (await client.session(ended.session).result()).status == "succeeded"
        assert [one.name for one in await client.programs.list()] == ["boxed"]
