"""An agent that is given all handlers whose names begin alike."""

from __future__ import annotations

from typing import Any

import pytest
from dspy_system import System

from dspex_services.handlers import Handlers

pytestmark = pytest.mark.anyio


async def test_all_handlers_that_begin_alike_are_tools(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dspex_services.dspy.discovery._WAIT_S", 0.2)
    shelf = Handlers()
    for name in ("shelf.count_books", "shelf.dust", "shelves.other"):

        @shelf.handler(name)
        async def use(values: dict[str, Any]) -> dict[str, Any]:
            """Counts books on a shelf."""
            return {"count": 7}

    await system.serve(shelf, "shelf")
    agent = {"signature": "question -> answer", "tools": ["shelf.*"]}
    output = await system.step("dspy.ReAct", {"question": "How many books are there?"}, **agent)
    tools = {value for name, value in output["trajectory"].items() if name.startswith("tool_name")}
    assert tools <= {"shelf_count_books", "shelf_dust", "finish"}
    assert "shelf_count_books" in tools
    error = await system.refused("dspy.ReAct", {"question": "?"}, **{**agent, "tools": ["nothing.*"]})
    assert error.code == "unknown_tool"
