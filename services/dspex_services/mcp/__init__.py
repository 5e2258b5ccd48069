"""The tools of MCP servers as handlers on the bus: ``dspex serve dspex_services.mcp:handlers --pool tools``, with the
servers in the file that ``DSPEX_MCP`` names. Importing this package does not import the MCP library; its handlers do.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import SetupError
from ..handlers import Handlers
from .config import MCPServer, read_servers

if TYPE_CHECKING:
    handlers: Handlers

__all__ = ["MCPServer", "mcp_handlers", "read_servers"]


def mcp_handlers(servers: dict[str, MCPServer]) -> Handlers:
    """A handler ``mcp.<server>.<tool>`` for every tool of the servers, asked for here. Raises SetupError."""
    try:
        from .tools import offered
    except ImportError as error:
        raise SetupError(f"the MCP library is missing; install dspex[mcp] ({error})") from error
    return offered(servers)


def __getattr__(name: str) -> Handlers:
    # A worker imports ``dspex_services.mcp:handlers``; the environment is read then and not before.
    if name == "handlers":
        return mcp_handlers(read_servers(os.environ))
    raise AttributeError(name)
