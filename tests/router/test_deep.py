"""A journal that holds what no request can bring: values nested as deep as a decoder can bear, and deeper."""

from __future__ import annotations

import anyio
import pytest

import dspex
from dspex_bus import EmbeddedServer, NatsBus, subjects
from dspex_bus.streams import DEFAULT_PARTITIONS, LIVE
from dspex_bus.wire import SessionAccepted, encode_event
from dspex_router.plan import Catalog, compile_pipeline
from dspex_router.shell.young import live_key
from dspex_services.handlers import Handlers
from dspex_services.worker import WorkerConfig

from .inside import router, worker

pytestmark = pytest.mark.anyio

handlers = Handlers()


@handlers.handler("count")
async def count(values: dict[str, object]) -> dict[str, int]:
    return {"n": len(values)}


STEP = dspex.pipeline([dspex.native("count", pool="one")], name="p")


async def test_it_ends_no_router() -> None:
    async with EmbeddedServer() as server, dspex.connect(server.url) as client, NatsBus(server.url) as bus:
        async with router(server), worker(server, handlers, WorkerConfig(pool="one", slots=4)):
            plan = compile_pipeline(STEP, Catalog({"one": {info.name: info for info in handlers.infos()}}))
        sessions = []
        for depth in (*range(955, 990), 20_000):
            session, deep = f"deep{depth}", "[" * depth + "]" * depth
            partition = subjects.partition_of(session, DEFAULT_PARTITIONS)
            slot = subjects.accepted(partition, session)
            accepted = SessionAccepted(session=session, plan=plan, input={"a": "?"}, deadline_ms=2**50)
            data, headers = encode_event(accepted, slot)
            await bus.key_value(LIVE).put(live_key(partition, session), b"1")
            await bus.store_and_wait(slot, data.replace(b'"?"', deep.encode()), headers=headers)
            sessions.append(client.session(session))
        async with router(server), worker(server, handlers, WorkerConfig(pool="one", slots=4)):
            with anyio.fail_after(20):
                for session in sessions:
                    assert (await session.result(timeout_s=20)).status in ("succeeded", "failed")
            assert (await client.run(STEP, {"a": 1})).output == {"n": 1}
