"""What a very long session costs: the time to take it up, and what its journal costs the server for each step.

A loop of one step, as its journal is after so many rounds: written as routers and workers write it, then read. The
floor merely reads the stream; *fold* is what a router does that takes the session over: read, decode and decide, to
the state that it goes on from. Both in turns, the medians paired. The server's memory is compared between restarts,
when it holds nothing but what it must.

Then the same with compaction, told of the session's growth as by its owner: what is left of the journal, the time of
one snapshot (reading what came since the last one, storing, purging), and the time to take the session up.

    python benchmarks/long_session.py [--quick] [--large] [--json FILE]

``--large``: 100,000 steps besides the 10,000, and 300,000 compacted.
"""

from __future__ import annotations

import asyncio
import tempfile
from functools import partial

import anyio
from retention import TEXT, settled_rss
from timing import arguments, milliseconds, report, run_loop, seconds_each

from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.streams import DEFAULT_PARTITIONS, EVENTS, buckets, streams
from dspex_bus.wire import (
    JOURNAL_FORMAT,
    JournalEvent,
    LoopNode,
    Plan,
    RetryPolicy,
    SequenceNode,
    SessionAccepted,
    StepSucceeded,
    TaskNode,
    encode_event,
)
from dspex_router.core import Session
from dspex_router.shell.compaction import Compaction
from dspex_router.shell.config import RouterConfig
from dspex_router.shell.journals import Journals

SESSION = "long"
PARTITION = subjects.partition_of(SESSION, DEFAULT_PARTITIONS)
TURNS = 3
NOTES = {
    "read_ms": "the floor: every message read, nothing done",
    "fold_ms": "the session as it stands",
    "fold_to_read": "",
    "fold_us_per_step": "",
    "stored_bytes_per_step": "in the stream: outcome, headers and subject",
    "rss_bytes_per_step": "the server's memory, more than before",
}
COMPACTED = {
    "messages_at_most": "in the journal, before a compaction",
    "messages_left": "at the end",
    "kilobytes_left": "",
    "compact_ms": "each: reading what came since, storing, purging",
    "taken_up_ms": "the session as it stands",
    "rss_megabytes": "the server's memory, more than before, after a restart",
}


def plan() -> Plan:
    step = TaskNode(
        id="0-n-0",
        name="step",
        pool="native",
        handler="predict",
        implementation="native",
        timeout_ms=60_000,
        retry=RetryPolicy(),
    )
    body = SequenceNode(id="0-n", name="round", children=(step,))
    loop = LoopNode(id="0", name="rounds", body=body, until="done == true", at_most=10**9)
    return Plan(pipeline="long", digest="0" * 64, root=SequenceNode(id="root", name="long", children=(loop,)))


async def start(bus: NatsBus) -> None:
    subject = subjects.accepted(PARTITION, SESSION)
    accepted = SessionAccepted(
        session=SESSION,
        plan=plan(),
        input={"done": False, "question": TEXT},
        deadline_ms=2**50,
        format=JOURNAL_FORMAT,
    )
    data, headers = encode_event(accepted, subject)
    await bus.store_and_wait(subject, data, headers=headers, once=True)


async def write(bus: NatsBus, done: int, steps: int) -> None:
    limit = asyncio.Semaphore(512)

    async def store(subject: str, event: JournalEvent) -> None:
        async with limit:
            data, headers = encode_event(event, subject)
            await bus.store_and_wait(subject, data, headers=headers, once=True, timeout_s=60)

    outcome = StepSucceeded(outputs={"answer": TEXT}, worker="host-1234-abcd", started_ms=1_700_000_000_000)
    for first in range(done, done + steps, 1000):
        rounds = range(first, min(first + 1000, done + steps))
        await asyncio.gather(
            *(store(subjects.outcome(PARTITION, SESSION, "native", f"0-{round}-0", 1), outcome) for round in rounds)
        )


async def read(bus: NatsBus, steps: int) -> None:
    count = 0
    async for _ in bus.history(EVENTS, subjects.session_journal(PARTITION, SESSION)):
        count += 1
    assert count == steps + 1


async def fold(bus: NatsBus, steps: int) -> None:
    state = await Journals(bus, DEFAULT_PARTITIONS).fold(SESSION)
    assert state is not None
    assert state.counts["0-n-0"].succeeded == steps


async def measure(steps: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedServer(data_dir=folder) as server, NatsBus(server.url, name="benchmark") as bus:
            await bus.prepare(streams(), buckets())
            await server.restart()
            before = await settled_rss(server)
            await start(bus)
            await write(bus, 0, steps)
            stored = (await bus.stream_info(EVENTS))["bytes"]
            await server.restart()
            after = await settled_rss(server)
            reads, folds = [], []
            for _ in range(TURNS):
                reads += await seconds_each(1, lambda: read(bus, steps))
                folds += await seconds_each(1, lambda: fold(bus, steps))
    read_ms, fold_ms = milliseconds(reads), milliseconds(folds)
    return {
        "read_ms": read_ms,
        "fold_ms": fold_ms,
        "fold_to_read": fold_ms / read_ms,
        "fold_us_per_step": 1000 * fold_ms / steps,
        "stored_bytes_per_step": stored / steps,
        "rss_bytes_per_step": (after - before) / steps,
    }


async def measure_compacted(steps: int, every: int) -> dict[str, float]:
    async with EmbeddedServer() as server, NatsBus(server.url, name="benchmark") as bus:
        await bus.prepare(streams(), buckets())
        await server.restart()
        before = await settled_rss(server)
        journals, sessions = Journals(bus, DEFAULT_PARTITIONS), dict[str, Session]()
        config = RouterConfig(compact_events=every, compact_grace_s=0.0)
        compaction, taken, most = Compaction(bus, config, journals, sessions), list[float](), 0.0
        async with anyio.create_task_group() as group:
            group.start_soon(compaction.run)
            await start(bus)
            for written in range(0, steps, every):
                await write(bus, written, every)
                most = max(most, (await bus.stream_info(EVENTS))["messages"])
                state = await journals.fold(SESSION)
                assert state is not None
                sessions[SESSION] = state
                taken += await seconds_each(1, partial(compacted, compaction, journals, state))
            group.cancel_scope.cancel()
        left = await bus.stream_info(EVENTS)
        folds = await seconds_each(TURNS, lambda: fold(bus, steps))
        await server.restart()
        after = await settled_rss(server)
    return {
        "messages_at_most": most,
        "messages_left": left["messages"],
        "kilobytes_left": left["bytes"] / 1000,
        "compact_ms": milliseconds(taken),
        "taken_up_ms": milliseconds(folds),
        "rss_megabytes": (after - before) / 1e6,
    }


async def compacted(compaction: Compaction, journals: Journals, state: Session) -> None:
    """Its snapshot is stored, and what it makes superfluous is gone."""
    compaction.look(state)
    while compaction.busy(state.id):
        await anyio.sleep(0.001)
    newest = await journals.snapshots.newest(SESSION)
    assert newest is not None
    assert newest.event.length == state.length


async def all_of(sizes: list[int], compact: list[int], every: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for steps in sizes:
        found |= {f"{name}.{steps}": value for name, value in (await measure(steps)).items()}
    for steps in compact:
        figures = await measure_compacted(steps, every)
        found |= {f"compacted.{name}.{steps}": value for name, value in figures.items()}
    return found


def main() -> None:
    large = ("--large", {"action": "store_true", "help": "100,000 steps besides the 10,000, and 300,000 compacted"})
    options = arguments(__doc__ or "", more=[large])
    sizes, compact, every = [10_000], [100_000], 10_000
    if options.large:
        sizes, compact = [10_000, 100_000], [100_000, 300_000]
    if options.quick:
        sizes, compact, every = [2_000], [4_000], 1_000
    notes = {f"{name}.{steps}": note for steps in sizes for name, note in NOTES.items()}
    notes |= {f"compacted.{name}.{steps}": note for steps in compact for name, note in COMPACTED.items()}
    report(run_loop(all_of(sizes, compact, every)), options.json, notes)


if __name__ == "__main__":
    main()
