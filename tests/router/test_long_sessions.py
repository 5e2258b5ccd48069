"""Sessions whose journals are compacted while they run: nobody who asks, watches, forks or takes over can tell."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest
from anyio.abc import Process

import dspex
from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.crashing import CRASH_AT
from dspex_bus.errors import DspexError
from dspex_bus.streams import EVENTS, OBJECTS, buckets, streams
from dspex_bus.wire import SessionAccepted, SessionEnded, SignalReceived, StepSucceeded
from dspex_router.shell import RouterConfig
from dspex_router.shell.snapshots import SHORTEST
from dspex_services.handlers import Handlers
from dspex_services.worker import WorkerConfig

from .inside import router, worker

pytestmark = pytest.mark.anyio

CONFIG = RouterConfig(compact_events=SHORTEST, compact_grace_s=0.0)
ROUNDS = 900


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    n: int


class Counting:
    """A pool that counts, how often it was asked to by whom, and fails the last step until it is told not to."""

    def __init__(self) -> None:
        self.asked: Counter[int] = Counter()
        self.fails = True
        self.handlers = Handlers()

        @self.handlers.handler("count")
        async def count(request: Counted) -> Counted:
            self.asked[request.n] += 1
            return Counted(n=request.n + 1)

        @self.handlers.handler("tell")
        async def tell(request: Counted) -> dict[str, str]:
            if self.fails:
                raise ValueError("not yet")
            return {"told": f"it is {request.n}"}


PIPELINE = dspex.pipeline(
    [
        dspex.loop([dspex.native("count", pool="p")], until=f"n >= {ROUNDS}", at_most=ROUNDS),
        dspex.wait("go"),
        dspex.native("tell", pool="p"),
    ],
    output=["told", "n"],
)


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedServer]:
    """With its streams, so that workers need not wait for a router."""
    async with EmbeddedServer() as started:
        async with NatsBus(started.url, name="test") as bus:
            await bus.prepare(streams(), buckets())
        yield started


async def outcomes(bus: NatsBus, session: str) -> list[int]:
    pattern = subjects.session_outcomes(subjects.partition_of(session, 16), session)
    return [message.sequence async for message in bus.history(EVENTS, pattern)]


async def waiting(session: dspex.Session) -> None:
    with anyio.fail_after(50):
        while (await session.view()).waiting_for != ("go",):
            await anyio.sleep(0.05)


async def compacted(session: dspex.Session) -> int:
    """Compaction comes a moment after what it is due to."""
    with anyio.fail_after(10):
        while not (found := (await session.page()).compacted):
            await anyio.sleep(0.01)
    return found


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_nobody_can_tell(server: EmbeddedServer) -> None:
    counting = Counting()
    async with (
        worker(server, counting.handlers, WorkerConfig(pool="p")),
        dspex.connect(server.url) as client,
        NatsBus(server.url, name="test") as bus,
    ):
        async with router(server, CONFIG):
            session = await client.submit(PIPELINE, {"n": 0}, session="long")
            seen = []
            async for event in session.events():
                seen += [event.node] if isinstance(event.event, StepSucceeded) else []
                if len(seen) == ROUNDS:
                    break
            assert seen == [f"0-{round}-0" for round in range(ROUNDS)]
            await waiting(session)
            through = await compacted(session)
            assert len(await outcomes(bus, "long")) < 2 * SHORTEST + 1
            (loop, _, _) = [step for step in (await session.view()).steps if "-" not in step.node]
            assert (loop.status, loop.kind) == ("succeeded", "loop")

        async with router(server, CONFIG):  # another takes over
            page = await session.page()
            assert page.compacted == through
            assert isinstance(page.events[0].event, SessionAccepted)
            assert page.events[1].sequence > through
            with pytest.raises(DspexError, match=r"told of no more") as refusal:
                await session.fork("0-3-0")
            assert refusal.value.code == "unknown_step"

            await session.signal("go")
            assert (await session.result(timeout_s=10)).status == "failed"
            counting.fails = False
            retried = await session.retry()
            forked = await session.fork("1", {"n": 0})
            await forked.signal("go")
            told = {"told": f"it is {ROUNDS}", "n": ROUNDS}
            assert (await retried.result(timeout_s=10)).output == told
            assert (await forked.result(timeout_s=10)).output == told
            assert set(counting.asked.values()) == {1}  # no round was made again
            assert [row.session for row in (await client.sessions()).sessions][-1] == "long"

            command = [sys.executable, "-m", "dspex", "replay", "long", "--json", "--server", server.url]
            lines = (await anyio.run_process(command)).stdout.splitlines()
            first, snapshot, *rest = [json.loads(line) for line in lines]
            assert (first["event"], snapshot["event"], snapshot["sequence"]) == (
                "session.accepted",
                "session.snapshot",
                through,
            )
            assert rest[-1]["event"] == "session.ended"
            text = (await anyio.run_process([*command[:5], *command[6:]])).stdout
            assert b"are summed up" in text


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_examples_are_made_of_compacted_sessions(server: EmbeddedServer, tmp_path: Path) -> None:
    """What was asked, answered and said of it is there, though what was done in between is not."""
    counting = Counting()
    counting.fails = False
    file = tmp_path / "train.jsonl"
    command = [sys.executable, "-m", "dspex", "dataset", "from-sessions", str(file), "--server", server.url]

    async def rows(*arguments: str) -> list[dict[str, object]]:
        await anyio.run_process([*command, *arguments])
        return [json.loads(line) for line in file.read_text().splitlines()]

    async with (
        router(server, CONFIG),
        worker(server, counting.handlers, WorkerConfig(pool="p")),
        dspex.connect(server.url) as client,
    ):
        session = await client.submit(PIPELINE, {"n": 0, "asked": "how many?"}, session="long")
        await session.signal("review", {"score": 0.2, "told": "wrong"}, id="early")
        await waiting(session)
        through = await compacted(session)
        await session.signal("review", {"score": 0.9, "told": "right"}, id="late")
        await session.signal("go")
        assert (await session.result(timeout_s=20)).status == "succeeded"
        page = await session.page()
        assert page.compacted == through
        assert [event.event.id for event in page.events if isinstance(event.event, SignalReceived)][:1] == ["early"]

        answered = {"asked": "how many?", "n": ROUNDS, "told": f"it is {ROUNDS}"}
        assert await rows() == [{**answered, "n": 0}]  # what was asked goes before what was answered
        reviewed = ("--feedback", "review", "--inputs", "asked", "--outputs", "told,n", "--with-session")
        right = {"asked": "how many?", "n": ROUNDS, "told": "right", "dspy_session": "long"}
        assert await rows(*reviewed, "--min-score", "0.5") == [right]
        assert await rows(*reviewed, "--min-score", "0.95") == []


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_run_that_was_stopped_in_mid_loop_goes_on_there(server: EmbeddedServer) -> None:
    counting = Counting()
    counting.fails = False
    async with (
        router(server, CONFIG),
        worker(server, counting.handlers, WorkerConfig(pool="p")),
        dspex.connect(server.url) as client,
    ):
        session = await client.submit(PIPELINE, {"n": 0})
        with anyio.fail_after(50):
            while counting.asked.total() < 3 * SHORTEST:
                await anyio.sleep(0.01)
        await compacted(session)
        await session.cancel()
        before = counting.asked.total()
        retried = await session.retry()
        await retried.signal("go")
        assert (await retried.result(timeout_s=30)).output == {"told": f"it is {ROUNDS}", "n": ROUNDS}
        assert counting.asked.total() <= ROUNDS + 1  # but the one that was running, perhaps
        assert counting.asked.total() > before


ROUTER = """
import sys, anyio
from dspex_bus import NatsBus
from dspex_router.shell import Router, RouterConfig

async def main():
    async with NatsBus(sys.argv[1], name="router") as bus, anyio.create_task_group() as group:
        config = RouterConfig(compact_events=256, compact_grace_s=0.0, sweep_s=0.5)
        await group.start(Router(bus, config).run)
        print("ready", flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


@asynccontextmanager
async def started(server: EmbeddedServer, environment: dict[str, str]) -> AsyncIterator[Process]:
    """A router in a process of its own, ready."""
    async with await anyio.open_process([sys.executable, "-c", ROUTER, server.url], env=environment) as process:
        try:
            assert process.stdout is not None
            with anyio.fail_after(30):
                assert b"ready" in await process.stdout.receive()
            yield process
        finally:
            if process.returncode is None:
                process.kill()


PLACES = [
    f"{verb}.journal.{what}.{when}"
    for verb, what in (("store", "snapshot"), ("purge", "step"), ("purge", "snapshot"))
    for when in ("before", "after")
]


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_routers_that_are_killed_while_they_compact(server: EmbeddedServer) -> None:
    """Each at its place, the next one takes up what it left; at the end every round has been made, and counted once."""
    rounds = 6_000
    ends = dspex.pipeline([dspex.loop([dspex.native("count", pool="p")], until=f"n >= {rounds}", at_most=rounds)])
    counting = Counting()
    async with (
        worker(server, counting.handlers, WorkerConfig(pool="p")),
        dspex.connect(server.url) as client,
        NatsBus(server.url, name="test") as bus,
        AsyncExitStack() as stack,
    ):
        session: dspex.Session | None = None
        for place in [*PLACES, ""]:
            environment = {**os.environ, CRASH_AT: place} if place else {**os.environ}
            process = await stack.enter_async_context(started(server, environment))
            session = session or await client.submit(ends, {"n": 0}, session="long")
            if place:
                with anyio.fail_after(40):
                    assert await process.wait() == -signal.SIGKILL, place
            else:
                result = await session.result(timeout_s=60)
                assert (result.status, result.output) == ("succeeded", {"n": rounds})
                view = await session.view()
                assert [(step.runs, step.succeeded) for step in view.steps if step.node == "0-n-0"] == [
                    (rounds, rounds)
                ]
                ends_stored = [event async for event in session.events() if isinstance(event.event, SessionEnded)]
                assert len(ends_stored) == 1
                assert len(await outcomes(bus, "long")) < 4 * SHORTEST
                assert await bus.objects(OBJECTS).contents() == []
    assert sorted(counting.asked) == list(range(rounds))
