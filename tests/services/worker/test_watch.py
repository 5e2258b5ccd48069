"""One look at all attempts in place of timers for each."""

from __future__ import annotations

import anyio
import pytest

from dspex_bus.clock import Clock
from dspex_bus.wire import Task
from dspex_services.handlers import Handlers
from dspex_services.worker.attempt import Attempt
from dspex_services.worker.threads import Threads
from dspex_services.worker.watch import LOOK_S, QUIET_S, Watch

pytestmark = pytest.mark.anyio

handlers = Handlers()


@handlers.handler("some")
def some(fields: dict[str, object]) -> dict[str, object]:
    return fields


def attempt() -> Attempt:
    task = Task(session="s", node="0", attempt=1, partition=0, handler="some", timeout_ms=1000, deadline_ms=2**60)
    return Attempt(task, handlers.get("some"), "worker", Threads(1), Clock())


async def test_the_slow_are_told_of_once_each() -> None:
    told: list[Attempt] = []
    watch = Watch(told.append)
    slow, quick = attempt(), attempt()
    watch.add(slow)
    watch.add(quick)
    watch.remove(quick)
    with anyio.fail_after(5):
        while not told:
            await anyio.sleep(LOOK_S)
    await anyio.sleep(5 * LOOK_S)  # it may be told of no second time
    assert told == [slow]
    assert list(watch) == [slow]


async def test_who_is_watched_may_change_while_they_are_looked_at() -> None:
    told: list[Attempt] = []

    def replace(found: Attempt) -> None:
        told.append(found)
        watch.remove(found)
        watch.add(attempt())

    watch = Watch(replace)
    watch.add(attempt())
    with anyio.fail_after(5):
        while len(told) < 3:
            await anyio.sleep(QUIET_S)
    assert len(set(told)) == len(told)
