"""An agent that uses the tools of an MCP server, through the bus."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("mcp")
pytest.importorskip("dspy")

import dspex
from dspex_bus import EmbeddedServer, NatsBus
from dspex_router import Router
from dspex_services.dspy.model import Models
from dspex_services.dspy.pool import dspy_handlers
from dspex_services.dspy.programs import Programs
from dspex_services.handlers import Handlers
from dspex_services.mcp import MCPServer, mcp_handlers
from dspex_services.offline_lm import MODEL, OfflineLM
from dspex_services.worker import Worker, WorkerConfig

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

LIBRARY = [sys.executable, str(Path(__file__).with_name("library.py"))]


async def test_an_agent_reads_what_a_tool_says_and_what_it_fails_with() -> None:
    tools = await anyio.to_thread.run_sync(
        lambda: mcp_handlers({"library": MCPServer(command=LIBRARY, tools=["year_of"])})
    )
    async with OfflineLM() as lm, EmbeddedServer() as server:
        environment = {"DSPEX_MODEL": f"openai/{MODEL}", "DSPEX_BASE_URL": lm.base_url}
        async with NatsBus(server.url, name="all") as bus, anyio.create_task_group() as group:
            await group.start(Router(bus).run)

            async def serve(handlers: Handlers, pool: str) -> None:
                await group.start(Worker(bus, handlers, WorkerConfig(pool=pool, drain_s=1)).run)

            await serve(dspy_handlers(Programs(Models(environment))), "dspy")
            await serve(tools, "mcp")
            agent = dspex.module("dspy.ReAct", signature="question -> answer", tools=["mcp.library.*"])
            step = dspex.native("mcp.library.year_of", title="Emma", pool="mcp")
            async with dspex.connect(server.url) as client:
                for question, seen in [("In which year came out Dune?", "1965"), ("Who is Zadig?", "no book Zadig")]:
                    result = await client.run(dspex.pipeline([agent]), {"question": question}, timeout_s=30)
                    assert result.output is not None
                    trajectory = result.output["trajectory"]
                    assert trajectory["tool_name_0"] == "mcp_library_year_of"
                    assert seen in str(trajectory["observation_0"])
                result = await client.run(dspex.pipeline([step]), {}, timeout_s=30)
                assert result.output == {"text": "1815", "structured": {"result": 1815}}
            group.cancel_scope.cancel()
