"""What can be set on a router from its command line. Each option is a field of a RouterConfig, in a person's units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from .shell import SECONDS, largest_option, pool_queue_option, retention_option

_OPTIONS = (
    retention_option,
    largest_option,
    click.option(
        "--run-timeout",
        "run_timeout_s",
        type=SECONDS,
        default=3600.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a run may take that says nothing of it, nor its pipeline.",
    ),
    pool_queue_option,
    click.option(
        "--queue-mb",
        type=click.IntRange(1),
        default=512,
        show_default=True,
        help="Mebibytes of waiting steps, of all pools, before runs are answered 'overloaded'.",
    ),
    click.option(
        "--sessions",
        type=click.IntRange(1),
        default=200_000,
        show_default=True,
        help="Sessions in this router's memory before runs are answered 'overloaded'.",
    ),
    click.option(
        "--requests",
        type=click.IntRange(1),
        default=4096,
        show_default=True,
        help="Requests in this router's hands before more are answered 'overloaded'.",
    ),
    click.option(
        "--park-after",
        "park_after_s",
        type=click.FloatRange(min=0),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="A session that only waits for so long is kept on disk alone; 0 for never.",
    ),
    click.option(
        "--compact-events",
        type=click.IntRange(256),
        default=10_000,
        show_default=True,
        help="Events after which a session's journal is summed up in a snapshot.",
    ),
    click.option(
        "--compact-grace",
        "compact_grace_s",
        type=click.FloatRange(min=0),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="How old a snapshot is before what it sums up may be removed.",
    ),
    click.option(
        "--workers-grace",
        "workers_grace_s",
        type=click.FloatRange(min=0),
        default=5.0,
        show_default=True,
        metavar="SECONDS",
        help="How long a run waits for a pool that has no worker before it is refused.",
    ),
    click.option(
        "--tasks",
        type=click.Choice(["memory", "file"]),
        default="memory",
        show_default=True,
        help="Where the server keeps steps that wait; what it loses of memory is sent again from the journal.",
    ),
    click.option(
        "--partitions",
        type=click.IntRange(1, 4096),
        default=16,
        show_default=True,
        help="Shares that sessions are dealt out to routers in; counts only on a server without a journal yet.",
    ),
    click.option(
        "--replicas",
        type=click.IntRange(1, 5),
        default=1,
        show_default=True,
        help="Servers of a cluster that keep each message; 3 outlast one of them.",
    ),
)


def routing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that :func:`settings` makes the fields of a RouterConfig of."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def settings(*, retention_days: float, largest_mb: int, queue_mb: int, **others: Any) -> dict[str, Any]:
    """The fields of a RouterConfig: those in other units here than there, and the rest as they are."""
    return {
        "retention_s": 86_400 * retention_days,
        "largest_bytes": largest_mb << 20,
        "task_bytes": queue_mb << 20,
        **others,
    }
