"""What a kept journal costs the server: memory and disk for each event, of sessions that have ended.

Journals as routers and workers write them: what was accepted with its plan, the outcomes of ten steps, the end. The
server is looked at while it is idle, and again after a restart, when it holds nothing but what it must.

    python benchmarks/retention.py [--quick] [--json FILE]
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from timing import arguments, report, run_loop

from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.streams import DEFAULT_PARTITIONS, EVENTS, buckets, streams
from dspex_bus.wire import (
    JournalEvent,
    Plan,
    RetryPolicy,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    StepSucceeded,
    TaskNode,
    encode_event,
)

STEPS = 10
EVENTS_EACH = STEPS + 2
TEXT = "An answer of a sentence or two, as a language model would write it, with a reason for what it says. " * 2
NOTES = {
    "events": "stored",
    "stored_bytes_per_event": "headers and subjects with them",
    "disk_bytes_per_event": "the server's data folder",
    "idle_rss_bytes_per_event": "the server's memory, more than before",
    "restarted_rss_bytes_per_event": "the same after a restart",
    "restarted_rss_bytes_per_session": f"of {EVENTS_EACH} events",
    "restart_s": "until the server answers again",
}


def plan() -> Plan:
    steps = tuple(
        TaskNode(
            id=str(place),
            name="step",
            pool="native",
            handler="predict",
            implementation="native",
            timeout_ms=60_000,
            retry=RetryPolicy(),
        )
        for place in range(STEPS)
    )
    return Plan(pipeline="kept", digest="0" * 64, root=SequenceNode(id="root", name="kept", children=steps))


def journal(session: str, what: Plan) -> list[tuple[str, JournalEvent]]:
    """A session's events, each with its slot."""
    partition = subjects.partition_of(session, DEFAULT_PARTITIONS)
    accepted = SessionAccepted(session=session, plan=what, input={"question": TEXT}, deadline_ms=0)
    outcome = StepSucceeded(outputs={"answer": TEXT}, worker="host-1234-abcd", started_ms=1_700_000_000_000)
    steps = [(subjects.outcome(partition, session, "native", str(step), 1), outcome) for step in range(STEPS)]
    ended = SessionEnded(status="succeeded", output={"answer": TEXT})
    return [(subjects.accepted(partition, session), accepted), *steps, (subjects.end(partition, session), ended)]


async def fill(bus: NatsBus, prefix: str, sessions: int) -> None:
    what, limit = plan(), asyncio.Semaphore(256)

    async def store(subject: str, event: JournalEvent) -> None:
        async with limit:
            data, headers = encode_event(event, subject)
            await bus.store_and_wait(subject, data, headers=headers, once=True, timeout_s=60)

    for start in range(0, sessions, 100):
        names = [f"{prefix}{number:020x}" for number in range(start, min(start + 100, sessions))]
        await asyncio.gather(*(store(*stored) for name in names for stored in journal(name, what)))


async def settled_rss(server: EmbeddedServer) -> int:
    """The server's resident memory, once it stays."""
    seen = [_rss(server)]
    while len(seen) < 6 or abs(seen[-1] - seen[-6]) > seen[-1] * 0.005:
        await asyncio.sleep(0.5)
        seen.append(_rss(server))
        if len(seen) == 60:
            break
    return seen[-1]


def _rss(server: EmbeddedServer) -> int:
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * 4096


def _disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


async def measure(quick: bool) -> dict[str, float]:
    sessions = 4_000 if quick else 40_000
    count = sessions * EVENTS_EACH
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedServer(data_dir=folder) as server:
            async with NatsBus(server.url, name="benchmark") as bus:
                await bus.prepare(streams(), buckets())
                await fill(bus, "warm", 10)
                before, disk_before = await settled_rss(server), _disk(Path(folder))
                await fill(bus, "kept", sessions)
                stored = (await bus.stream_info(EVENTS))["bytes"]
            idle = await settled_rss(server)
            disk = _disk(Path(folder)) - disk_before
            began = asyncio.get_running_loop().time()
            await server.restart()
            restart_s = asyncio.get_running_loop().time() - began
            restarted = await settled_rss(server)
        async with EmbeddedServer() as empty:
            async with NatsBus(empty.url, name="benchmark") as bus:
                await bus.prepare(streams(), buckets())
                await fill(bus, "warm", 10)
            await empty.restart()
            bare = await settled_rss(empty)
    return {
        "events": count,
        "stored_bytes_per_event": stored / count,
        "disk_bytes_per_event": disk / count,
        "idle_rss_bytes_per_event": (idle - before) / count,
        "restarted_rss_bytes_per_event": (restarted - bare) / count,
        "restarted_rss_bytes_per_session": (restarted - bare) / sessions,
        "restart_s": restart_s,
    }


def main() -> None:
    options = arguments(__doc__ or "")
    report(run_loop(measure(options.quick)), options.json, NOTES)


if __name__ == "__main__":
    main()
