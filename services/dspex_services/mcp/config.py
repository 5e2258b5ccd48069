"""Which MCP servers a worker uses: a YAML or JSON file of the operator's, named by ``DSPEX_MCP``.

    files:
      command: [npx, -y, "@modelcontextprotocol/server-filesystem", /srv/files]
    tickets:
      url: https://tickets.example/mcp
      headers: {Authorization: TICKETS_AUTHORIZATION}
      tools: [search, read]

Secrets stay in the worker's environment: ``headers`` and ``environment`` name the variables that hold them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dspex_bus.errors import InvalidName
from dspex_bus.names import token

from ..errors import SetupError

VARIABLE = "DSPEX_MCP"


class MCPServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reached by a ``command``, which is started and spoken to over its standard input and output, or at a ``url``.
    ``environment`` names the variables of the worker's own that the command gets besides the usual ones; ``headers``
    maps headers to the variables with their values. ``tools`` are those that are offered; all without it.
    ``timeout_s`` bounds a call, and the start."""

    command: list[str] = []
    url: str = ""
    folder: str = ""
    environment: list[str] = []
    headers: dict[str, str] = {}
    tools: list[str] | None = None
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url):
            raise ValueError("an MCP server has a 'command' or a 'url'")
        if self.timeout_s <= 0:
            raise ValueError("timeout_s must be above 0")


def read_servers(environment: Mapping[str, str]) -> dict[str, MCPServer]:
    """By name. Raises SetupError naming the file and what is wrong with it."""
    path = environment.get(VARIABLE)
    if not path:
        raise SetupError(f"no MCP server is configured: name a file of them in {VARIABLE}")
    import yaml

    try:
        raw: Any = yaml.safe_load(Path(path).read_text("utf-8"))
        servers = msgspec.convert(raw or {}, dict[str, MCPServer])
        for name in servers:
            token(name, "MCP server")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, msgspec.ValidationError, InvalidName) as error:
        raise SetupError(f"the MCP servers in {path} ({VARIABLE}) cannot be used: {error}") from error
    if not servers:
        raise SetupError(f"{path} ({VARIABLE}) names no MCP server")
    return servers


def resolved(names: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """The values of variables, by what they are for. Raises SetupError for one that is not set."""
    missing = sorted(variable for variable in names.values() if variable not in environment)
    if missing:
        raise SetupError(f"an MCP server needs {', '.join(missing)} in the worker's environment")
    return {purpose: environment[variable] for purpose, variable in names.items()}
