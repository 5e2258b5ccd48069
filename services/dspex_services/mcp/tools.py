"""An MCP server's tools as handlers: described by their own schemas, called within the step's time."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

from dspex_bus.errors import DspexError
from dspex_bus.wire import HandlerInfo

from ..errors import SetupError, StepError
from ..handlers import Handlers, Step
from .config import MCPServer
from .connection import Connection

logger = logging.getLogger("dspex.worker")

_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_OUTPUTS = ("text", "structured")


def offered(servers: dict[str, MCPServer]) -> Handlers:
    """Raises SetupError for a server that cannot be reached, or lacks a tool that it is to offer."""
    listed = asyncio.run(_listed(servers))
    handlers = Handlers()
    for name, tools in listed.items():
        connection = Connection(name, servers[name])
        handlers.on_close(connection.close)
        for tool in _chosen(name, servers[name], tools):
            handlers.add(_calling(connection, tool.name), _info(name, tool))
    return handlers


async def _listed(servers: dict[str, MCPServer]) -> dict[str, list[Any]]:
    """What each server lists, over connections of their own: the workers' come with their event loop."""

    async def ask(name: str, server: MCPServer) -> list[Any]:
        connection = Connection(name, server)
        try:
            return await connection.tools()
        except DspexError as error:
            raise SetupError(error.message) from error
        finally:
            await connection.close()

    tools = await asyncio.gather(*(ask(name, server) for name, server in servers.items()))
    return dict(zip(servers, tools, strict=True))


def _chosen(name: str, server: MCPServer, tools: list[Any]) -> list[Any]:
    if server.tools is None:
        return tools
    known = {tool.name: tool for tool in tools}
    missing = [tool for tool in server.tools if tool not in known]
    if missing:
        raise SetupError(f"the MCP server {name} has no tool {missing[0]!r}; it has: {', '.join(sorted(known))}")
    return [known[tool] for tool in server.tools]


def _info(server: str, tool: Any) -> HandlerInfo:
    schema = dict(tool.input_schema)
    properties = list(schema.get("properties", {}))
    required = tuple(field for field in schema.get("required", ()) if field in properties)
    return HandlerInfo(
        name=f"mcp.{server}.{_UNFIT.sub('_', tool.name)[:64]}",
        required=required,
        optional=tuple(field for field in properties if field not in required),
        outputs=_OUTPUTS,
        summary=(tool.description or tool.title or "").strip(),
        schema=schema,
    )


def _calling(connection: Connection, tool: str) -> Any:
    async def call(arguments: dict[str, Any], step: Step) -> dict[str, Any]:
        return _outputs(tool, await connection.call(tool, arguments, step.remaining_s))

    return call


def _outputs(tool: str, result: Any) -> dict[str, Any]:
    """``text`` is what it says in words, ``structured`` what it says as data; anything else is in ``content``."""
    text = "\n".join(part.text for part in result.content if part.type == "text")
    if result.is_error:
        raise StepError(text or f"{tool} failed without saying why", code="tool_failed")
    outputs: dict[str, Any] = {"text": text, "structured": result.structured_content}
    others = [part.model_dump(mode="json", by_alias=True) for part in result.content if part.type != "text"]
    return {**outputs, "content": others} if others else outputs
