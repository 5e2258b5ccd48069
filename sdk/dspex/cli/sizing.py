"""What ``serve`` and ``pool`` share: how large a pool is, when its workers are replaced, and what runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_OPTIONS = (
    click.option(
        "--max-size",
        type=click.IntRange(1),
        metavar="N",
        help="Start more workers, up to N, when tasks have to wait; without it the pool stays at --size.",
    ),
    click.option(
        "--scale-after-s",
        type=click.FloatRange(0),
        default=0.5,
        show_default=True,
        help="With --max-size: how long a task waits before there are more workers.",
    ),
    click.option(
        "--idle-s",
        type=click.FloatRange(0),
        default=60.0,
        show_default=True,
        help="With --max-size: workers that were not needed for that long leave, down to --size.",
    ),
    click.option(
        "--recycle-after-tasks",
        type=click.IntRange(1),
        metavar="N",
        help="Replace a worker once it has done about N tasks (it is asked every second).",
    ),
    click.option(
        "--recycle-after-s", type=click.FloatRange(1), metavar="SECONDS", help="Replace a worker when it is that old."
    ),
    click.option(
        "--recycle-over-mb",
        type=click.FloatRange(1),
        metavar="MIB",
        help="Replace a worker whose resident memory is over that: for handlers and libraries that leak.",
    ),
    click.option(
        "--python",
        type=click.Path(exists=True),
        metavar="PATH",
        help="The Python that runs its workers, or a virtual environment: with packages of its own, dspex among them.",
    ),
)


def sizing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that are fields of a PoolSpec. Those that were not given are left out of what the command is called with
    by :func:`given`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
