"""An MCP server of its own process: ``python library.py`` over standard input and output, ``python library.py PORT``
over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("library")
BOOKS = {"dune": 1965, "emma": 1815}


@server.tool()
def year_of(title: str) -> int:
    """The year in which a book came out."""
    if title.lower() not in BOOKS:
        raise ToolError(f"there is no book {title}")
    return BOOKS[title.lower()]


@server.tool()
def describe(title: str, style: str = "plain") -> str:
    """A book in a sentence."""
    return f"{title} ({style}), by {os.environ.get('LIBRARIAN', 'nobody')}"


@server.tool()
async def sleep(seconds: float) -> str:
    """Wait."""
    await asyncio.sleep(seconds)
    return "awake"


@server.tool()
def die() -> str:
    """End the process."""
    os._exit(3)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
