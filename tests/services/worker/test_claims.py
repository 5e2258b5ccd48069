"""What a dead worker held can be read and given back by somebody else."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator

import anyio
import pytest

from dspex_bus import Bus, Delivery, EmbeddedServer, MemoryBus, NatsBus, subjects
from dspex_bus.streams import TASKS, buckets, streams
from dspex_services.worker.claims import RECORD, Claims, make_file


def shared(slots: int = 1) -> tuple[Claims, Claims]:
    """The worker's side and the supervisor's."""
    file = make_file(slots)
    try:
        return Claims.of(file), Claims.of(file)
    finally:
        os.close(file)


def test_direct_calls_are_told_apart() -> None:
    worker, supervisor = shared()
    worker.add("receipt")
    worker.run("receipt")
    claims = [worker.answer("_INBOX.a.1", "dspex.v1.token.s.0.1"), worker.answer("_INBOX.a.2", "")]
    assert worker.answer("_INBOX.a.2", "") == claims[1]
    assert (supervisor.read(), supervisor.running()) == (["receipt"], ["receipt"])
    assert sorted(supervisor.calls()) == [("_INBOX.a.1", "dspex.v1.token.s.0.1"), ("_INBOX.a.2", "")]
    for claim in claims:
        worker.remove(claim)
    assert supervisor.calls() == []
    for number in range(1000):
        worker.remove(worker.answer(f"_INBOX.a.{number}", ""))
    assert supervisor.calls() == []


def test_the_other_side_reads_what_is_held() -> None:
    worker, supervisor = shared()
    assert supervisor.read() == []
    for receipt in ("one", "two", "three"):
        worker.add(receipt)
    worker.remove("two")
    worker.remove("two")
    worker.remove("never there")
    assert sorted(supervisor.read()) == ["one", "three"]
    worker.add("a shorter one than before")
    worker.remove("one")
    worker.remove("three")
    assert supervisor.read() == ["a shorter one than before"]


def test_the_other_side_sees_which_are_run() -> None:
    worker, supervisor = shared()
    for receipt in ("one", "two"):
        worker.add(receipt)
    worker.run("two")
    worker.run("never there")
    assert (sorted(supervisor.read()), supervisor.running()) == (["one", "two"], ["two"])
    worker.remove("two")
    worker.add("three")
    assert (sorted(supervisor.read()), supervisor.running()) == (["one", "three"], [])
    assert worker.shared
    assert not Claims.nowhere().shared


def test_a_full_file_leaves_the_rest_unclaimed() -> None:
    worker, supervisor = shared(slots=1)
    for number in range(1000):
        worker.add(f"r{number}")
    held = supervisor.read()
    assert 2 < len(held) < 1000
    for number in range(1000):
        worker.remove(f"r{number}")
    assert supervisor.read() == []
    worker.add("again")
    assert supervisor.read() == ["again"]


def test_a_receipt_that_does_not_fit_is_unclaimed() -> None:
    worker, supervisor = shared()
    worker.add("x" * RECORD)
    worker.add("x" * (RECORD - 2))
    assert supervisor.read() == ["x" * (RECORD - 2)]


def test_without_a_supervisor_nothing_is_written() -> None:
    claims = Claims.nowhere()
    claims.add("one")
    claims.remove("one")
    claims.close()
    assert claims.read() == []


def test_they_outlive_the_worker_that_wrote_them() -> None:
    file = make_file(4)
    program = textwrap.dedent(
        """
        import os, signal, sys
        from dspex_services.worker.claims import Claims
        claims = Claims.of(int(sys.argv[1]))
        for receipt in ("kept", "done", "kept too"):
            claims.add(receipt)
        claims.remove("done")
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    ended = subprocess.run([sys.executable, "-c", program, str(file)], pass_fds=[file], check=False)
    assert ended.returncode == -signal.SIGKILL
    supervisor = Claims.of(file)
    assert sorted(supervisor.read()) == ["kept", "kept too"]
    supervisor.close()
    os.close(file)


@pytest.fixture(params=["memory", "nats"])
async def bus(request: pytest.FixtureRequest, server: EmbeddedServer) -> AsyncIterator[Bus]:
    async with NatsBus(server.url) if request.param == "nats" else MemoryBus() as bus:
        await bus.prepare(streams(), buckets())
        yield bus


@pytest.mark.anyio
async def test_whoever_has_the_receipt_can_give_a_task_back(bus: Bus) -> None:
    pool = f"p{secrets.token_hex(4)}"
    came: list[Delivery] = []
    arrived = anyio.Event()

    async def on_delivery(delivery: Delivery) -> None:
        nonlocal arrived
        came.append(delivery)
        arrived.set()
        arrived = anyio.Event()

    async def until(count: int) -> None:
        with anyio.fail_after(5):
            while len(came) < count:
                await arrived.wait()

    consumer = await bus.consume(TASKS, subjects.durable(pool), subjects.lane_tasks(pool), on_delivery, ack_wait_s=60)
    await consumer.want(3)
    await bus.store_and_wait(subjects.task(pool, "normal", "s", "0", 1), b"task", once=True)
    await until(1)
    await bus.give_back(came[0].receipt)
    await until(2)
    assert [delivery.deliveries for delivery in came] == [1, 2]
    await came[1].ack()
    await bus.give_back(came[1].receipt)  # done already
    await bus.store_and_wait(subjects.task(pool, "normal", "s", "1", 1), b"next", once=True)
    await until(3)
    assert came[2].data == b"next"
    await came[2].ack()
    await consumer.close()
