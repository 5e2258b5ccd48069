"""Options for what LM calls may use, and for whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from dspex_bus.wire import Budget


def budget_options(command: Callable[..., Any]) -> Callable[..., Any]:
    cost = click.option(
        "--cost", type=click.FloatRange(min=0), help="What LM calls may cost together, in the operator's currency."
    )
    tokens = click.option("--tokens", type=click.IntRange(min=0), help="Tokens LM calls may use together, in and out.")
    return cost(tokens(command))


def tenant_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--tenant", default="", metavar="NAME", help="Who it is for: see dspex tenants.")(command)


def budget_of(cost: float | None, tokens: int | None) -> Budget | None:
    return None if cost is None and tokens is None else Budget(cost=cost, tokens=tokens)
