"""The step cache: equal steps run once, whatever they gave."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from dspex_bus.streams import CACHE
from dspex_bus.wire import StepFailed
from dspex_services.handlers import Handlers, Step
from dspex_services.worker.cache import step_key as key

from ..rig import Rig

pytestmark = pytest.mark.anyio


class Giving:
    """A handler that gives what the test wants and counts how often it was asked."""

    def __init__(self, value: Any = None) -> None:
        self.handlers = Handlers()
        self.runs = 0

        @self.handlers.handler("give")
        async def give(values: dict[str, Any], step: Step) -> Any:
            self.runs += 1
            if values.get("fail"):
                raise ValueError("no")
            return value if value is not None else {"run": self.runs}


@pytest.mark.parametrize(
    "value", [{}, {"a": None}, {"a": False}, {"a": 0}, {"a": ""}, {"a": []}, {"a": {}}, {"a": [0, None, False]}]
)
async def test_falsy_outputs_are_kept_like_any_other(rig: Rig, value: dict[str, Any]) -> None:
    giving = Giving(value)
    async with rig.worker(giving.handlers):
        first = await rig.run("give", {"n": 1}, cache_ms=60_000)
        second = await rig.run("give", {"n": 1}, cache_ms=60_000)
    assert (first.outputs, first.cached) == (value, False)
    assert (second.outputs, second.cached) == (value, True)
    assert giving.runs == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"n": 1}, {"n": 2}),
        ({"n": 0}, {"n": False}),
        ({"n": None}, {}),
        ({"n": ""}, {"n": None}),
        ({"n": "1"}, {"n": 1}),
    ],
)
async def test_different_inputs_are_different_steps(rig: Rig, one: dict[str, Any], other: dict[str, Any]) -> None:
    async with rig.worker(Giving().handlers):
        assert (await rig.run("give", one, cache_ms=60_000)).outputs == {"run": 1}
        assert (await rig.run("give", other, cache_ms=60_000)).outputs == {"run": 2}
        assert (await rig.run("give", one, options={"k": 1}, cache_ms=60_000)).outputs == {"run": 3}


async def test_the_order_of_fields_does_not_matter(rig: Rig) -> None:
    async with rig.worker(Giving().handlers):
        await rig.run("give", {"a": 1, "b": {"c": 1, "d": 2}}, cache_ms=60_000)
        assert (await rig.run("give", {"b": {"d": 2, "c": 1}, "a": 1}, cache_ms=60_000)).cached


async def test_without_a_cache_time_nothing_is_kept(rig: Rig) -> None:
    giving = Giving()
    async with rig.worker(giving.handlers):
        for _ in range(2):
            assert not (await rig.run("give")).cached
    assert giving.runs == 2


async def test_failures_are_not_kept(rig: Rig) -> None:
    giving = Giving()
    async with rig.worker(giving.handlers):
        for _ in range(2):
            assert isinstance(await rig.run("give", {"fail": True}, cache_ms=60_000), StepFailed)
    assert giving.runs == 2


async def test_it_forgets_in_time(rig: Rig) -> None:
    async with rig.worker(Giving().handlers):
        await rig.run("give", cache_ms=1000)
        assert (await rig.run("give", cache_ms=1000)).cached
        with anyio.fail_after(10):
            while (await rig.run("give", cache_ms=1000)).cached:
                await anyio.sleep(0.1)


@pytest.mark.parametrize("kept", [b"", b"{", b"[1]", b'"text"', b"\xff"])
async def test_an_entry_that_cannot_be_read_is_none(rig: Rig, kept: bytes) -> None:
    task = rig.task("give", cache_ms=60_000)
    await rig.bus.key_value(CACHE).put(key(rig.pool, task), kept)
    async with rig.worker(Giving().handlers):
        await rig.send(task)
        assert (await rig.outcome(task)).outputs == {"run": 1}


async def test_pools_do_not_share_what_they_keep(rig: Rig) -> None:
    task = rig.task("give", cache_ms=60_000)
    assert key("one", task) != key("other", task)


async def test_what_is_too_large_to_be_kept_is_run_again(rig: Rig) -> None:
    giving = Giving({"text": "x" * (rig.bus.max_payload - 400)})
    async with rig.worker(giving.handlers):
        for _ in range(2):
            await rig.run("give", cache_ms=60_000)
    assert giving.runs in (1, 2)
