"""What the benchmarks share: timing, a table, one flat JSON object."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Options = Sequence[tuple[str, Mapping[str, Any]]]


def arguments(description: str, *, calls: bool = False, more: Options = ()) -> argparse.Namespace:
    """The options of a benchmark: its own, in ``more``, are arguments of ``add_argument``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: ends within a minute")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there, one flat object")
    if calls:
        parser.add_argument("--calls", type=int, default=0, help="how many calls the memory is watched over")
    for name, settings in more:
        parser.add_argument(name, **settings)
    return parser.parse_args()


def run_loop(main: Coroutine[Any, Any, Any], *, plain: bool = False) -> Any:
    """On uvloop where that is installed, as dspex's own processes do, so that floor and product stand on the same
    loop; ``plain`` on asyncio's own."""
    try:
        import uvloop
    except ImportError:
        plain = True
    if plain:
        return asyncio.run(main)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def seconds_each(count: int, work: Callable[[], Awaitable[Any]]) -> list[float]:
    """How long each of ``count`` calls took, one after the other."""
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        await work()
        taken.append(time.perf_counter() - start)
    return taken


async def seconds_in_flight(count: int, in_flight: int, work: Callable[[], Awaitable[Any]]) -> float:
    """How long ``count`` calls took with ``in_flight`` of them at a time."""
    gate = asyncio.Semaphore(in_flight)

    async def one() -> None:
        async with gate:
            await work()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(one())
    return time.perf_counter() - start


def cpu_seconds() -> float:
    """CPU that this process and those it started have used so far."""
    return sum(cpu_by_process().values())


def cpu_by_process() -> Counter[str]:
    """The same, by what they are: ``server``, ``router``, ``worker``, ``floor`` (the floors' worker), or ``client``."""
    used: Counter[str] = Counter(client=_cpu_seconds(os.getpid()))
    for pid in _started_by(os.getpid()):
        used[_role(pid)] += _cpu_seconds(pid)
    return used


def _role(pid: int) -> str:
    command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    if "nats-server" in command[0]:
        return "server"
    if "router" in command:
        return "router"
    return "floor" if "floor.py" in command else "worker"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _started_by(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            yield child
            yield from _started_by(child)


def milliseconds(taken: list[float]) -> float:
    return statistics.median(taken) * 1e3


def report(figures: Mapping[str, float], file: Path | None, notes: Mapping[str, str]) -> None:
    width = max(len(name) for name in figures)
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:>12,.3f}  {notes.get(name, '')}".rstrip())
    if file is not None:
        file.write_text(json.dumps({name: round(value, 4) for name, value in figures.items()}, indent=2) + "\n")
