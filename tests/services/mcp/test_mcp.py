"""The tools of a real MCP server, in a process of its own, as handlers on the bus."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

pytest.importorskip("mcp")

from dspex_bus.errors import SetupError
from dspex_bus.wire import HandlerInfo, StepFailed, StepTimedOut
from dspex_services.errors import StepError
from dspex_services.handlers import Handlers
from dspex_services.mcp import MCPServer, mcp_handlers, read_servers
from dspex_services.mcp.connection import Connection

from ..rig import Rig

pytestmark = pytest.mark.anyio

LIBRARY = [sys.executable, str(Path(__file__).with_name("library.py"))]


@pytest.fixture(scope="module")
def handlers() -> Handlers:
    """Asked for as a worker process does it, before there is an event loop."""
    return mcp_handlers({"library": MCPServer(command=LIBRARY, environment=["PATH"], timeout_s=20)})


def info(handlers: Handlers, name: str) -> HandlerInfo:
    return handlers.get(f"mcp.library.{name}").info


def test_tools_are_described_as_the_server_describes_them(handlers: Handlers) -> None:
    assert {one.name for one in handlers.infos()} == {
        f"mcp.library.{n}" for n in ("year_of", "describe", "sleep", "die")
    }
    described = info(handlers, "describe")
    assert (described.required, described.optional) == (("title",), ("style",))
    assert described.summary == "A book in a sentence."
    assert described.schema["properties"]["title"]["type"] == "string"


async def test_calls_failures_and_timeouts(rig: Rig, handlers: Handlers) -> None:
    async with rig.worker(handlers):
        found = await rig.run("mcp.library.year_of", {"title": "Dune"})
        assert found.outputs == {"text": "1965", "structured": {"result": 1965}}
        failed = await rig.run("mcp.library.year_of", {"title": "nothing"})
        assert isinstance(failed, StepFailed)
        assert (failed.error.code, failed.error.retryable) == ("tool_failed", False)
        assert "nothing" in failed.error.message
        refused = await rig.run("mcp.library.year_of", {})
        assert isinstance(refused, StepFailed)
        assert "title" in refused.error.message
        late = await rig.run("mcp.library.sleep", {"seconds": 30}, timeout_ms=300)
        assert isinstance(late, StepTimedOut | StepFailed)
        assert late.error.code in ("step_timed_out", "tool_timed_out")


@pytest.mark.slow
async def test_a_server_that_dies_is_started_again(rig: Rig, handlers: Handlers) -> None:
    async with rig.worker(handlers):
        dead = await rig.run("mcp.library.die", {})
        assert isinstance(dead, StepFailed)
        assert (dead.error.code, dead.error.retryable) == ("tool_unavailable", True)
        found = await rig.run("mcp.library.describe", {"title": "Emma"})
        assert found.outputs["text"] == "Emma (plain), by nobody"


@pytest.mark.slow
async def test_many_calls_at_once_over_one_connection(handlers: Handlers) -> None:
    connection = Connection("library", MCPServer(command=LIBRARY))
    try:
        started = time.monotonic()
        results = await asyncio.gather(*(connection.call("sleep", {"seconds": 0.3}, 10) for _ in range(20)))
        assert [result.content[0].text for result in results] == ["awake"] * 20
        assert time.monotonic() - started < 5
    finally:
        await connection.close()


@pytest.mark.slow
async def test_secrets_come_from_the_worker_s_environment() -> None:
    server = MCPServer(command=LIBRARY, environment=["LIBRARIAN"])
    connection = Connection("library", server, {**os.environ, "LIBRARIAN": "Ada"})
    try:
        assert (await connection.call("describe", {"title": "Emma"}, 10)).content[0].text == "Emma (plain), by Ada"
    finally:
        await connection.close()
    with pytest.raises(StepError, match="LIBRARIAN"):
        await Connection("library", server, {}).call("describe", {"title": "Emma"}, 10)


@pytest.fixture
async def port() -> AsyncIterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = int(taken.getsockname()[1])
    process = await anyio.open_process([*LIBRARY, str(free)], stdout=None, stderr=None)
    try:
        with anyio.fail_after(20):
            while True:
                try:
                    await (await anyio.connect_tcp("127.0.0.1", free)).aclose()
                    break
                except OSError:
                    await anyio.sleep(0.05)
        yield free
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.slow
async def test_a_server_over_http(port: int) -> None:
    connection = Connection("library", MCPServer(url=f"http://127.0.0.1:{port}/mcp"))
    try:
        assert {tool.name for tool in await connection.tools()} >= {"year_of", "sleep"}
        assert (await connection.call("year_of", {"title": "Emma"}, 10)).structured_content == {"result": 1815}
    finally:
        await connection.close()


def test_servers_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="nobody"):
        mcp_handlers({"nobody": MCPServer(command=["/does/not/exist"])})
    with pytest.raises(SetupError, match="gone"):
        mcp_handlers({"gone": MCPServer(command=[sys.executable, "-c", "pass"], timeout_s=10)})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{a: {}}", "'command' or a 'url'"),
        ("{a: {command: [x], url: y}}", "'command' or a 'url'"),
        ("{a b: {command: [x]}}", "a b"),
        ("{a: {command: [x], key: secret}}", "key"),
        ("", "no MCP server"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mcp.yaml"
    file.write_text(text)
    with pytest.raises(SetupError, match=said):
        read_servers({"DSPEX_MCP": str(file)})
    with pytest.raises(SetupError, match="DSPEX_MCP"):
        read_servers({})


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mcp.yaml"
    file.write_text(
        "{files: {command: [a, b], tools: [read]}, web: {url: 'http://x/mcp', headers: {Authorization: A}}}"
    )
    servers: dict[str, Any] = read_servers({"DSPEX_MCP": str(file)})
    assert servers["files"] == MCPServer(command=["a", "b"], tools=["read"])
    assert servers["web"].headers == {"Authorization": "A"}
