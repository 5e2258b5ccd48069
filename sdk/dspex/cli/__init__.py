"""The ``dspex`` command. Each subcommand's module is imported only when it is used, so that ``--help`` is quick."""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
from typing import Any

import click

COMMANDS = {
    "demo": "dspex.cli.demo:demo",
    "up": "dspex.cli.up:up",
    "serve": "dspex.cli.parts:serve",
    "run": "dspex.cli.run:run",
    "call": "dspex.cli.run:call",
    "explain": "dspex.cli.explain:explain",
    "watch": "dspex.cli.watch:watch",
    "cancel": "dspex.cli.control:cancel",
    "pause": "dspex.cli.control:pause",
    "resume": "dspex.cli.control:resume",
    "signal": "dspex.cli.control:signal",
    "retry": "dspex.cli.control:retry",
    "fork": "dspex.cli.control:fork",
    "replay": "dspex.cli.replay:replay",
    "pipelines": "dspex.cli.pipelines:pipelines",
    "schedules": "dspex.cli.schedules:schedules",
    "limits": "dspex.cli.limits:limits",
    "sessions": "dspex.cli.show:sessions",
    "pools": "dspex.cli.pools:pools",
    "dead": "dspex.cli.dead:dead",
    "cache": "dspex.cli.cache:cache",
    "threads": "dspex.cli.threads:threads",
    "programs": "dspex.cli.programs:programs",
    "templates": "dspex.cli.templates:templates",
    "evaluate": "dspex.cli.evaluate:evaluate_",
    "optimize": "dspex.cli.optimize:optimize",
    "dataset": "dspex.cli.dataset:dataset",
    "tenants": "dspex.cli.tenants:tenants",
    "doctor": "dspex.cli.doctor:doctor",
    "router": "dspex.cli.parts:router",
    "pool": "dspex.cli.parts:pool",
    "offline-lm": "dspex.cli.parts:offline_lm",
}


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and (near := difflib.get_close_matches(args[0], COMMANDS, 1)):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dspex")
def cli() -> None:
    """Pipelines of LM programs on a message bus.

    \b
    Start here:
      dspex demo                 the research assistant, on an embedded server
      dspex up                   server, router and pools on this machine
      dspex run PIPELINE.yaml    run a pipeline and watch it
      dspex doctor               what this machine has and what it lacks

    The server is --server, else the environment's DSPEX_SERVER, else nats://127.0.0.1:4222.
    """


def main() -> None:
    """Errors on standard error with what to do, or, where ``--json`` is asked for, as an object on standard output.

    Exit codes: 0 done, 1 it failed, 2 the command line is wrong, 130 interrupted."""
    try:
        cli(standalone_mode=False)
    except Exception as error:  # told to a person below, or raised again where nobody foresaw it
        sys.exit(_failed(error))
    except (KeyboardInterrupt, BaseExceptionGroup) as error:
        sys.exit(_failed(error))


def _failed(error: BaseException) -> int:
    """Say what went wrong; the exit code. What nobody foresaw is raised again, with its traceback."""
    from dspex_bus.errors import DspexError

    match leaf := _leaf(error):
        case click.ClickException():
            leaf.show()
            return leaf.exit_code
        case click.Abort() | KeyboardInterrupt():
            return 130
        case DspexError():
            _report(leaf)
            return 1
        case SystemExit() | BrokenPipeError():  # whoever read our output has left; flushing at exit must not fail again
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        case _:
            raise error


def _leaf(error: BaseException) -> BaseException:
    """The first error in a task group's bundle: the rest are its consequences."""
    return _leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _report(error: Any) -> None:
    if "--json" in sys.argv:
        document = {
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
            "details": error.details,
        }
        print(json.dumps({"error": document}, default=str))
    else:
        click.secho(f"error: {error.message}", fg="red", err=True)
        click.echo(f"code:  {error.code}{' (trying again may help)' if error.retryable else ''}", err=True)
