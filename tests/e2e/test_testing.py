"""What users test their own pipelines with: ``dspex.testing``."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import anyio
import pytest

import dspex
import dspex.testing

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
ASK = dspex.pipeline(
    [
        dspex.call("predict", signature="question -> answer"),
        dspex.module("dspy.ChainOfThought", signature="answer -> longer", temperature=0.2),
        dspex.module("mine:Module"),
        dspex.native("shop.stock"),
    ],
    output=["answer", "longer", "stock"],
)


def shop() -> dspex.Handlers:
    handlers = dspex.Handlers()

    @handlers.handler("shop.stock")
    def stock(_: dict[str, Any]) -> dict[str, Any]:
        return {"stock": 12}

    return handlers


async def test_the_page_s_example() -> None:
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "testing.md").read_text("utf-8"), re.DOTALL)
    assert code is not None
    page: dict[str, Any] = {"__name__": "page"}
    exec(code[1], page)
    tests = [test for name, test in page.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        await test()


async def test_stubs_stand_for_native_handlers_modules_and_one_s_own() -> None:
    handlers = shop()
    longer, mine = Mock(return_value={"longer": "42!", "reasoning": ""}), AsyncMock(return_value={})
    stubs = {
        "predict": {"answer": "42"},
        "dspy.ChainOfThought": longer,
        "mine:Module": mine,
        "shop.stock": {"stock": 0},
    }
    async with dspex.testing.system(handlers, stubs=stubs) as dx:
        assert (await dx.run(ASK, {"question": "x"})).output == {"answer": "42", "longer": "42!", "stock": 0}
    longer.assert_called_once_with({"answer": "42"})
    mine.assert_awaited_once()
    async with dspex.testing.system(handlers) as dx:
        assert (await dx.call("shop.stock")).stock == 12, "a stub is its own system's"


async def test_a_stub_s_step_is_checked_as_its_own() -> None:
    stubs = {"dspy.ChainOfThought": {"longer": "y"}}
    async with dspex.testing.system(stubs=stubs) as dx:
        wrong = dspex.pipeline([dspex.module("dspy.ChainOfThought", signature="answer -> longer", temperatur=1)])
        with pytest.raises(dspex.InvalidRequest, match="no constant 'temperatur'"):
            await dx.run(wrong, {"answer": "x"})
        right = dspex.pipeline([dspex.module("dspy.ChainOfThought", signature="answer -> longer")])
        with pytest.raises(dspex.InvalidRequest, match="needs the field 'answer'"):
            await dx.run(right, {})


async def test_pools_by_name_and_nothing_of_one_system_in_another() -> None:
    one = dspex.pipeline([dspex.native("shop.stock", pool="shop")], name="one")
    async with dspex.testing.system({"shop": shop()}) as dx:
        assert (await dx.run(one)).output == {"stock": 12}
        assert {pool.pool for pool in (await dx.pools()).pools} == {"native", "shop"}
    async with dspex.testing.system({"store": shop()}) as dx:
        began = time.monotonic()
        with pytest.raises(dspex.Unavailable):
            await dx.run(one)
        assert time.monotonic() - began < 3, "a pool that is not there is not waited for"
        assert (await dx.sessions()).sessions == ()


async def test_events_signals_and_cancelling() -> None:
    waits = dspex.pipeline([dspex.wait("go"), dspex.native("template", template="{{ by }}")])
    async with dspex.testing.system() as dx:
        with anyio.fail_after(10):
            session = await dx.submit(waits, {})
            await session.signal("go", {"by": "Ada"})
            assert [stored.event.__struct_config__.tag async for stored in session.events()][-1] == "session.ended"
            assert (await session.result()).output == {"text": "Ada"}
            other = await dx.submit(waits, {})
            assert (await other.cancel()).status == "cancelled"


async def test_what_a_test_raises_is_not_wrapped() -> None:
    with pytest.raises(ZeroDivisionError):
        async with dspex.testing.system():
            raise ZeroDivisionError


async def test_without_a_model_and_with_the_offline_one() -> None:
    async with dspex.testing.system() as dx:
        with pytest.raises(dspex.DspexError) as refused:
            await dx.predict("question -> answer", question="What is 17 plus 25?")
        assert refused.value.code == "lm_not_configured"
    async with dspex.testing.system(offline_lm=True) as dx:
        assert (await dx.predict("question -> answer", question="What is 17 plus 25?")).answer == "42"


async def test_what_a_run_cannot_take_is_said_before_it_is_sent() -> None:
    hello: Any = dspex.pipeline([dspex.native("template", template="Hello {{ name }}")])
    text: Any = "Ada"
    async with dspex.testing.system() as dx:
        with pytest.raises(dspex.InvalidRequest, match=r"input is its fields, such as .* no str"):
            await dx.run(hello, text)
        with pytest.raises(dspex.InvalidRequest, match=r"a pipeline is what dspex\.pipeline .* no dict"):
            await dx.run({"steps": []}, {})  # type: ignore[arg-type]
        with pytest.raises(dspex.InvalidRequest, match="cannot be sent as JSON"):
            await dx.run(hello, {"name": object()})
        with pytest.raises(dspex.DspexError, match=r"predict's constants: .*`signature`"):
            await dx.call("predict", inputs={"question": "x"})
