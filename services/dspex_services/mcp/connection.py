"""A connection to an MCP server, made when it is first needed and made anew when it has broken.

The MCP library wants a connection entered and left in one task, so each has a task of its own, which holds it open."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
import mcp
from mcp.client.streamable_http import streamable_http_client

from ..errors import StepError
from .config import MCPServer, resolved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

logger = logging.getLogger("dspex.worker")

_CLOSE_S = 5.0
_HTTP_S, _HTTP_READ_S = 30.0, 300.0
"""A server may hold the stream of an answer open for long; a call's own limit is the one that counts."""


@dataclass(eq=False)
class _Held:
    """``client`` comes true once the connection stands; ``let_go`` ends it."""

    client: asyncio.Future[Any]
    let_go: asyncio.Event


class Connection:
    def __init__(self, name: str, server: MCPServer, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._server = server
        self._environment = os.environ if environment is None else environment
        self._held: _Held | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def tools(self) -> list[Any]:
        """Every tool that the server lists, as the MCP library describes it. Raises StepError."""
        found: list[Any] = []
        cursor: str | None = None
        async with self._using(self._server.timeout_s) as client:
            while True:
                page = await client.list_tools(cursor=cursor)
                found += page.tools
                cursor = page.next_cursor
                if cursor is None:
                    break
        return found

    async def call(self, tool: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        """The tool's result, also one that says it failed. Raises StepError where there is none."""
        limit = min(timeout_s, self._server.timeout_s)
        result: Any = None
        async with self._using(limit) as client:
            result = await client.call_tool(tool, arguments, read_timeout_seconds=limit)
        return result

    async def close(self) -> None:
        """The server is told to go, and a command's process ends."""
        self._break(self._held)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSE_S)
        for task in self._tasks:
            task.cancel()

    @asynccontextmanager
    async def _using(self, limit_s: float) -> AsyncIterator[Any]:
        """The connection, made if there is none. What goes wrong is a StepError; one that broke is not used again."""
        held = self._held or self._open()
        try:
            async with asyncio.timeout(limit_s):
                yield await asyncio.shield(held.client)
        except TimeoutError as late:
            raise self._late(limit_s) from late
        except mcp.MCPError as error:
            if error.code == mcp.types.REQUEST_TIMEOUT:
                raise self._late(limit_s) from error
            if error.code == mcp.types.CONNECTION_CLOSED:
                self._break(held)
                raise self._unavailable(error) from error
            raise StepError(f"{self.name}: {error.message}", code="tool_failed") from error
        except (OSError, RuntimeError) as error:
            self._break(held)
            raise self._unavailable(error) from error

    def _open(self) -> _Held:
        held = self._held = _Held(asyncio.get_running_loop().create_future(), asyncio.Event())
        task = asyncio.create_task(self._hold(held), name=f"MCP server {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return held

    async def _hold(self, held: _Held) -> None:
        try:
            async with mcp.Client(self._transport()) as client:
                held.client.set_result(client)
                await held.let_go.wait()
        except Exception as error:  # whatever it is, whoever waits for the connection is told
            if held.client.done():
                logger.warning("the connection to the MCP server %s has ended: %s", self.name, _leaf(error))
            else:
                held.client.set_exception(self._unavailable(error))
                held.client.exception()  # seen, even where nobody waits any more
        finally:
            held.client.cancel()
            self._break(held)

    def _break(self, held: _Held | None) -> None:
        if held is not None:
            held.let_go.set()
            if self._held is held:
                self._held = None

    def _transport(self) -> Any:
        server = self._server
        if server.command:
            own = resolved({name: name for name in server.environment}, self._environment)
            return mcp.StdioServerParameters(
                command=server.command[0], args=server.command[1:], env=own, cwd=server.folder or None
            )
        return _over_http(server.url, resolved(server.headers, self._environment))

    def _late(self, limit_s: float) -> StepError:
        message = f"the MCP server {self.name} did not answer within {limit_s:g} s"
        return StepError(message, code="tool_timed_out", retryable=True)

    def _unavailable(self, error: BaseException) -> StepError:
        said = str(_leaf(error)) or type(_leaf(error)).__name__
        message = f"the MCP server {self.name} cannot be reached: {said}"
        return StepError(message, code="tool_unavailable", retryable=True)


@asynccontextmanager
async def _over_http(url: str, headers: dict[str, str]) -> AsyncIterator[Any]:
    timeout = httpx2.Timeout(_HTTP_S, read=_HTTP_READ_S)
    async with (
        httpx2.AsyncClient(headers=headers, timeout=timeout) as http,
        streamable_http_client(url, http_client=http) as both,
    ):
        yield both


def _leaf(error: BaseException) -> BaseException:
    return _leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
