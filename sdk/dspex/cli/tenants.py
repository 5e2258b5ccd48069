"""``tenants``: what the runs of each may use together, and what they have used."""

from __future__ import annotations

from typing import Any

import click
from rich.table import Table

from dspex_bus.wire import Usage
from dspex_services.tenants import Standing

from .connecting import connect
from .shell import asynchronous, json_option, out, print_json, server_option
from .spending import budget_of, budget_options


@click.group(short_help="Budgets of tenants, and what they have used.")
def tenants() -> None:
    """A tenant is a label that runs carry (dspex run --tenant NAME): whom they are for."""


@tenants.command("list", short_help="Limits and use.")
@server_option
@json_option
@asynchronous
async def list_(server: str | None, as_json: bool) -> None:
    """Every tenant with a limit, or with use that was counted. Days and months are UTC's."""
    async with connect(server, name="dspex-tenants") as client:
        found = await client.tenants.list()
    if as_json:
        print_json({"tenants": [standing._asdict() for standing in found]})
        return
    if not found:
        out.print("no tenants; a run names one with: dspex run --tenant NAME …")
        return
    table = Table("tenant", "calls", "tokens", "cost", "limit", box=None, pad_edge=False)
    for standing in found:
        used = standing.used or Usage()
        cost = "" if used.cost is None else f"{used.cost:.6g}"
        table.add_row(
            standing.tenant, f"{used.calls:,}", f"{used.input_tokens + used.output_tokens:,}", cost, _limit(standing)
        )
    out.print(table)


@tenants.command("limit", short_help="Set or lift a tenant's limit.")
@click.argument("tenant")
@budget_options
@click.option("--per", type=click.Choice(["day", "month", "total"]), default="total", show_default=True)
@click.option("--none", "lift", is_flag=True, help="No limit any more.")
@server_option
@json_option
@asynchronous
async def limit(
    tenant: str, cost: float | None, tokens: int | None, per: Any, lift: bool, server: str | None, as_json: bool
) -> None:
    """Set what TENANT's runs may use together: dspex tenants limit acme --cost 20 --per month."""
    budget = budget_of(cost, tokens)
    if (budget is None) != lift:
        raise click.UsageError("give --cost, --tokens or both, or --none")
    async with connect(server, name="dspex-tenants") as client:
        if budget is None:
            await client.tenants.clear_limit(tenant)
        else:
            await client.tenants.set_limit(tenant, budget, per)
        standing = await client.tenants.get(tenant)
    print_json(standing._asdict()) if as_json else out.print(f"{tenant}: {_limit(standing)}")


@tenants.command("reset", short_help="Forget what a tenant has used.")
@click.argument("tenant")
@server_option
@json_option
@asynchronous
async def reset(tenant: str, server: str | None, as_json: bool) -> None:
    """Count what TENANT uses from nothing again."""
    async with connect(server, name="dspex-tenants") as client:
        await client.tenants.reset(tenant)
    print_json({"tenant": tenant}) if as_json else out.print(f"{tenant} is counted from nothing")


def _limit(standing: Standing) -> str:
    if standing.limit is None:
        return "none"
    budget, per = standing.limit.budget, standing.limit.per
    said = [f"{budget.cost:g}"] if budget.cost is not None else []
    said += [f"{budget.tokens:,} tokens"] if budget.tokens is not None else []
    return " and ".join(said) + ("" if per == "total" else f" a {per}")
