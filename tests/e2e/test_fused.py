"""Steps that travel together are seen, resumed and forked as if each had travelled by itself."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from nats.aio.client import Client as Nats

import dspex
from dspex_bus.wire import PipelineDefinition, SessionView, StepDefinition, StepSucceeded, TaskNode

from .conftest import RunningSystem
from .processes import dspex as command

pytestmark = pytest.mark.anyio

ADD = dspex.native("rough.add")
QUICK = dspex.RetryPolicy(attempts=2, initial_s=0)


def apart(pipeline: PipelineDefinition) -> PipelineDefinition:
    return msgspec.structs.replace(pipeline, fuse=False)


class Chance(random.Random):
    """Pipelines of pure steps, of every shape."""

    def steps(self, depth: int) -> list[StepDefinition]:
        return [self.step(depth) for _ in range(self.randint(1, 5))]

    def step(self, depth: int) -> StepDefinition:
        match self.randrange(10 if depth else 6):
            case 0 | 1 | 2:
                return dspex.native("rough.add", **self.renamed(), by=self.randint(1, 4))
            case 3:
                return dspex.native("rough.count", save_as=self.choice([None, "all"]))
            case 4:
                return dspex.native("rough.odd", retry=QUICK, save_as=self.choice([None, "odd"]))
            case 5:
                return dspex.native("template", template="{{ n }}{{ text }}", outputs={"text": "text"})
            case 6:
                return dspex.map("items", self.steps(depth - 1), item="n", on_error="collect", save_as="mapped")
            case 7:
                return dspex.branch(("n % 2 == 0", self.steps(depth - 1)), otherwise=self.steps(depth - 1))
            case 8:
                return dspex.loop(self.steps(depth - 1), until="n > 9", at_most=2)
            case _:
                branches = [dspex.sequence(self.steps(depth - 1)) for _ in range(2)]
                return dspex.parallel(branches, on_error="collect", save_as="branches")

    def renamed(self) -> dict[str, Any]:
        return self.choice(
            [
                {},
                {"outputs": {"n": "m"}},
                {"inputs": {"n": "items.1"}},
                {"inputs": {"n": "list.1.n"}},
                {"inputs": {"n": "all.n"}, "save_as": "all"},
            ]
        )


def outcome(result: dspex.RunResult, view: SessionView) -> Any:
    """How it ended, and each step, but for times and workers."""
    steps = [(step.node, step.status, step.attempt, step.succeeded, step.failed) for step in view.steps]
    error = result.error and (result.error.code, result.error.message, result.error.details)
    return result.status, result.output, error, steps


@pytest.mark.parametrize("seed", range(4))
async def test_it_ends_as_if_each_step_had_travelled_by_itself(client: dspex.Client, seed: int) -> None:
    async def end(pipeline: PipelineDefinition) -> Any:
        handle = await client.submit(pipeline, {"n": 1, "items": [4, 5, 6], "text": ""}, timeout_s=30)
        result = await handle.result(timeout_s=30)
        view = await handle.view()
        events = [event async for event in handle.events()]
        succeeded = {event.node: event.event.outputs for event in events if isinstance(event.event, StepSucceeded)}
        ends = {event.node for event in events if event.node}
        return outcome(result, view), succeeded, ends

    async def compare(pipeline: PipelineDefinition) -> None:
        assert await end(pipeline) == await end(apart(pipeline))

    chance = Chance(seed)
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(compare, dspex.pipeline([ADD, *chance.steps(2)]))


async def test_every_step_is_seen(client: dspex.Client, raw: Nats) -> None:
    handle = await client.submit(dspex.pipeline([ADD, ADD, ADD]), {"n": 0})
    seen = [event async for event in handle.events()]
    assert [event.node for event in seen] == ["", "0", "1", "2", ""]
    assert len({event.sequence for event in seen}) == 3
    view = await handle.view()
    assert [(step.status, step.attempt, bool(step.worker)) for step in view.steps] == [("succeeded", 1, True)] * 3
    assert len({step.worker for step in view.steps}) == 1
    page = await handle.page(limit=2)  # a page holds whole messages: what travelled together is not torn apart
    assert ([event.node for event in page.events], page.ended) == (["", "0", "1", "2"], False)


async def test_the_order_in_which_they_are_told_live_is_that_of_the_journal(client: dspex.Client) -> None:
    handle = await client.submit(dspex.pipeline([dspex.wait("go"), ADD, ADD]), {"n": 0})
    seen: list[str] = []
    async for event in handle.events():
        if not seen:
            await handle.signal("go")
        seen.append(event.node)
    assert seen == ["", "", "0", "1", "2", ""]


async def test_a_fork_goes_on_from_a_step_that_travelled(client: dspex.Client) -> None:
    stamp = dspex.native("rough.stamp")
    handle = await client.submit(dspex.pipeline([stamp, ADD, ADD, ADD], output=["n", "stamp"]), {"n": 0})
    first = (await handle.result(timeout_s=20)).output
    assert first is not None
    forked = await handle.fork("3", {"n": 100})
    again = (await forked.result(timeout_s=20)).output
    assert again == {"n": 3, "stamp": first["stamp"]}
    view = await forked.view()
    assert [step.worker != "" for step in view.steps] == [False, False, False, True]
    with pytest.raises(dspex.DspexError) as refusal:
        await handle.fork("4")
    assert refusal.value.code == "unknown_step"


async def test_a_fork_goes_on_from_an_item_s_step_that_travelled(client: dspex.Client) -> None:
    """Of an item that is over nothing is remembered but what the journal tells."""
    handle = await client.submit(
        dspex.pipeline([dspex.map("items", [ADD, ADD], item="n", limit=1, save_as="done")]), {"items": [1, 2]}
    )
    await handle.result(timeout_s=20)
    forked = await handle.fork("0-1-1")
    await forked.result(timeout_s=20)
    events = [event async for event in forked.events()]
    assert [event.node for event in events if event.node] == ["0-1-1"]


async def test_a_retry_keeps_those_that_travelled(client: dspex.Client, tmp_path: Path) -> None:
    flaky = dspex.native("rough.once", path=str(tmp_path / "tried"), retry=dspex.RetryPolicy(attempts=1))
    handle = await client.submit(dspex.pipeline([ADD, ADD, flaky, ADD]), {"n": 0})
    assert (await handle.result(timeout_s=20)).status == "failed"
    again = await handle.retry()
    assert (await again.result(timeout_s=20)).output == {"n": 3, "was": 2}
    assert [event.node async for event in again.events() if event.node] == ["2", "3"]


async def test_more_steps_than_one_task_takes(client: dspex.Client) -> None:
    handle = await client.submit(dspex.pipeline([ADD] * 150), {"n": 0})
    assert (await handle.result(timeout_s=20)).output == {"n": 150, "was": 149}
    assert len({event.sequence async for event in handle.events() if event.node}) == 2


async def test_an_unstored_run(client: dspex.Client) -> None:
    result = await client.run(dspex.pipeline([ADD] * 70), {"n": 0}, durability="none")
    assert result.output == {"n": 70, "was": 69}


async def test_what_is_too_much_for_one_message_travels_together_all_the_same(client: dspex.Client) -> None:
    """Each step reads half of what a message holds."""
    steps = [dspex.native("rough.measure", inputs={"text": it}, outputs={"size": f"of_{it}"}) for it in ("a", "b")]
    swell = dspex.native("rough.swell", size=600_000, outputs={"text": "b"})
    handle = await client.submit(dspex.pipeline([swell, *steps], output=["of_a", "of_b"]), {"a": "x" * 600_001})
    assert (await handle.result(timeout_s=20)).output == {"of_a": 600_001, "of_b": 600_000}
    first = (await handle.page(limit=1)).next_after
    second = (await handle.page(first, limit=1)).next_after
    assert [event.node for event in (await handle.page(second, limit=1)).events] == ["1", "2"]


async def test_replay_shows_what_travelled(client: dspex.Client, running: RunningSystem) -> None:
    handle = await client.submit(dspex.pipeline([ADD, ADD, dspex.native("rough.echo")]), {"n": 0, "text": "x"})
    await handle.result(timeout_s=20)
    told = await anyio.to_thread.run_sync(partial(command, "replay", handle.id, environment=running.environment))
    assert "send 0 attempt 1 (rough.add) to the pool rough, with 1" in told.stdout
    assert "step.succeeded  0 attempt 1, with 1" in told.stdout
    assert "send 2 attempt 1" in told.stdout
    assert "send 1 attempt 1" not in told.stdout


async def test_what_the_plan_says(client: dspex.Client) -> None:
    handle = await client.submit(dspex.pipeline([ADD, ADD, msgspec.structs.replace(ADD, fuse=False)]), {"n": 0})
    view = await handle.view()
    assert view.plan is not None
    nodes = [node for node in view.plan.root.children if isinstance(node, TaskNode)]
    assert [node.fuse for node in nodes] == [1, 0, 0]
