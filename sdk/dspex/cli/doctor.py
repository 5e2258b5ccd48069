"""``doctor``: what this machine has, what the system behind the server has, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import socket
import sys
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import click
from rich.markup import escape

from dspex_bus.compiled import compiled
from dspex_bus.errors import DspexError

from .shell import SECONDS, asynchronous, count, json_option, out, print_json, server_option

_MARKS = {"ok": "[green]✓[/]", "missing": "[yellow]–[/]", "failed": "[red]✗[/]"}


@dataclass(frozen=True)
class Check:
    name: str
    status: Literal["ok", "missing", "failed"]
    found: str


@click.command(short_help="Check this machine and the system behind the server.")
@click.option("--require", multiple=True, metavar="PART", help="Fail unless PART answers: router, or pool:NAME.")
@click.option("--here", is_flag=True, help="Of a required pool, count this machine's workers only.")
@click.option("--timeout", type=SECONDS, default=5.0, show_default=True, help="Seconds to wait for the server.")
@server_option
@json_option
@asynchronous
async def doctor(require: tuple[str, ...], here: bool, timeout: float, server: str | None, as_json: bool) -> int:
    """Say what is here, what answers, and what to do about what does not.

    With --require it is a health check: only the parts named are asked, and the exit code is 1 unless all of them
    answer."""
    checks = [] if require else machine()
    checks += await system(server, require, timeout, host=socket.gethostname() if here else None)
    if as_json:
        print_json([check.__dict__ for check in checks])
    else:
        for check in checks:
            out.print(f"{_MARKS[check.status]} {check.name:<14} {escape(check.found)}", soft_wrap=True)
    return 1 if any(check.status == "failed" for check in checks) else 0


def machine() -> list[Check]:
    """What is installed and configured here."""
    return [_python(), _build(), _nats_server(), _package("dspy", "dspy"), _package("search", "sklearn"), _model()]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info < (3, 14)
    return Check("python", "ok" if fits else "failed", f"{version}; dspex needs 3.11 to 3.13")


def _build() -> Check:
    if compiled():
        return Check("compiled", "ok", "the modules that every step passes through are compiled")
    return Check(
        "compiled", "missing", "interpreted, as it comes; docs/performance.md says what a compiled build gains"
    )


def _nats_server() -> Check:
    from dspex_bus import find_nats_server

    try:
        return Check("nats-server", "ok", find_nats_server())
    except DspexError as error:
        return Check("nats-server", "missing", error.message)


def _package(extra: str, module: str) -> Check:
    if importlib.util.find_spec(module) is None:
        return Check(extra, "missing", f"not installed; pip install 'dspex[{extra}]'")
    name = {"sklearn": "scikit-learn"}.get(module, module)
    return Check(extra, "ok", f"{name} {importlib.metadata.version(name)}")


def _model() -> Check:
    from dspex_services.lm import Configured, lacks_key

    try:
        config = Configured().get()
    except DspexError as error:
        return Check("model", "failed", error.message)
    if config is None:
        return Check("model", "missing", "none configured: the offline LM is used; set DSPEX_MODEL and its key")
    if lack := lacks_key(config, os.environ):
        return Check("model", "missing", lack)
    return Check("model", "ok", config.model + (f" at {config.base_url}" if config.base_url else ""))


async def system(server: str | None, require: tuple[str, ...], timeout: float, *, host: str | None) -> list[Check]:
    """What answers behind the server. Where nothing is required an absent server is no failure. ``host``: workers
    elsewhere do not count."""
    from .._connecting import server_url
    from .connecting import connect

    absent: Literal["failed", "missing"] = "failed" if require else "missing"
    try:
        with anyio.fail_after(timeout):
            async with connect(server, name="dspex-doctor", connect_timeout_s=0.8 * timeout) as client:
                checks = [Check("server", "ok", server_url(server))]
                return checks + await _parts(client, require, host)
    except (DspexError, TimeoutError) as error:
        message = error.message if isinstance(error, DspexError) else f"no answer within {timeout:g} s"
        return [Check("server", absent, f"{server_url(server)}: {message}")]


async def _parts(client: Any, require: tuple[str, ...], host: str | None) -> list[Check]:
    try:
        pools = {pool.pool: pool for pool in (await client.pools()).pools}
    except DspexError as error:
        return [Check("router", "failed", error.message)]
    from dspex_router.plan.operations import how_to_start

    checks = [Check("router", "ok", "answers")]
    for name in sorted(set(pools) | {part.removeprefix("pool:") for part in require if part.startswith("pool:")}):
        if require and f"pool:{name}" not in require:
            continue
        live = pools[name].workers if name in pools else ()
        workers = [worker for worker in live if host in (None, worker.host)]
        where = f" on {host}" if host else ""
        if workers:
            checks.append(Check(f"pool {name}", "ok", f"{count(len(workers), 'worker')}{where}"))
            continue
        absent: Literal["failed", "missing"] = "failed" if require or pools[name].queued else "missing"
        checks.append(Check(f"pool {name}", absent, f"no live worker{where}; start one: {how_to_start(name)}"))
    if not pools and not require:
        checks.append(Check("pools", "missing", "none; start some: dspex up, or dspex pool native"))
    return checks
