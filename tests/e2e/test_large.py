"""Values of megabytes: they go through the object store, and nobody notices."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from nats.aio.client import Client as Nats

import dspex
from dspex_bus import subjects
from dspex_bus.streams import OBJECTS
from dspex_bus.wire import SessionAccepted, SessionEnded, StepSucceeded

from .conftest import RunningSystem
from .processes import dspex as run_dspex

pytestmark = pytest.mark.anyio

MEGABYTES = 3_000_000
TEXT = "".join(chr(97 + index % 26) for index in range(MEGABYTES))
WORDS = ["w" * 100_000 for _ in range(30)]
STEPS = [
    dspex.native("rough.echo", name="echoed"),
    dspex.map("words", [dspex.native("rough.echo", inputs={"text": "item"}, outputs={"text": "echo"})], limit=4),
    dspex.native("template", template="{{ text }}{{ echo | join | length }}"),
]
LARGE = dspex.pipeline(STEPS, name="large")
INPUT = {"text": TEXT, "words": WORDS}


async def objects_of(client: dspex.Client, session: str) -> list[str]:
    contents = await client.bus.objects(OBJECTS).contents()
    return [info.name for info in contents if subjects.split_object(info.name) == session]


async def test_input_outputs_items_and_result(client: dspex.Client) -> None:
    result = await client.run(LARGE, INPUT, session="large-run", timeout_s=40)
    assert result.output == {"text": f"{TEXT}{MEGABYTES}"}

    session = client.session("large-run")
    events = [event async for event in session.events()]
    assert isinstance(events[0].event, SessionAccepted)
    assert events[0].event.input == INPUT
    assert isinstance(events[-1].event, SessionEnded)
    assert events[-1].event.output == result.output
    assert sum(isinstance(event.event, StepSucceeded) for event in events) == 2 + len(WORDS)
    # A page ends behind what is large: none is larger for it than its one event.
    assert [event.sequence for event in (await session.page()).events] == [events[0].sequence]
    assert (await session.result()).output == (await session.view()).output == result.output
    # Of the run's own there are its input, two steps' outputs and the end; its tasks' went when they were done.
    kinds = sorted(name.split(".")[1] for name in await objects_of(client, "large-run"))
    assert kinds == ["accepted", "end", "step", "step"]
    # What was asked and answered went as it was read.
    assert await objects_of(client, "") == []


async def test_live_events_signals_and_forks(client: dspex.Client) -> None:
    waiting = dspex.pipeline([dspex.wait("go"), dspex.native("rough.echo", name="echoed")])
    session = await client.submit(waiting, {"unused": 1})
    seen: list[Any] = []

    async def watch() -> None:
        seen.extend([event.event async for event in session.events()])

    watching = asyncio.create_task(watch())
    await session.signal("go", {"text": TEXT})
    result = await session.result(timeout_s=20)
    await asyncio.wait_for(watching, 20)
    assert result.output == {"text": TEXT}
    assert isinstance(seen[-1], SessionEnded)
    assert seen[-1].output == result.output

    forked = await session.fork((await session.view()).steps[-1].node)
    assert (await forked.result(timeout_s=20)).output == result.output
    mine, theirs = set(await objects_of(client, session.id)), set(await objects_of(client, forked.id))
    assert mine
    assert theirs
    assert not mine & theirs


async def test_what_is_not_stored(client: dspex.Client) -> None:
    assert (await client.call("rough.echo", inputs={"text": TEXT})).text == TEXT
    echo = dspex.pipeline([dspex.native("rough.echo")])
    result = await client.run(echo, {"text": TEXT}, durability="none", timeout_s=20)
    assert result.output == {"text": TEXT}
    assert await objects_of(client, "") == []


async def test_what_is_too_large_for_the_cache_is_made_again(client: dspex.Client) -> None:
    cached = dspex.pipeline([dspex.native("rough.echo", cache_s=60)])
    for _ in range(2):
        assert (await client.run(cached, {"text": TEXT}, timeout_s=20)).output == {"text": TEXT}


async def test_a_pipeline_within(client: dspex.Client) -> None:
    await client.put_pipeline(dspex.pipeline([dspex.native("rough.echo")], name="echo-within"))
    outer = dspex.pipeline([dspex.subpipeline("echo-within", inputs={"text": "words.0"}, save_as="inner")])
    result = await client.run(outer, {"words": [TEXT]}, timeout_s=20)
    assert result.output is not None
    assert result.output["inner"] == {"text": TEXT}


def test_the_command(running: RunningSystem, tmp_path: Path) -> None:
    (tmp_path / "large.json").write_bytes(msgspec.json.encode(LARGE))
    (tmp_path / "input.json").write_text(json.dumps(INPUT))
    done = run_dspex(
        "run", str(tmp_path / "large.json"), "--input", f"@{tmp_path / 'input.json'}", environment=running.environment
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout[done.stdout.index("{") :])["text"] == f"{TEXT}{MEGABYTES}"


RAW = """
import asyncio, json, sys, nats

async def main(server):
    connection = await nats.connect(server)
    definition = {"name": "echo", "steps": [{"native": "rough.echo"}]}
    request = {"definition": definition, "input": {"text": "x" * 400_000}}
    request["definition"]["steps"].append({"native": "template", "with": {"template": "{{ text }}{{ text }}"}})
    reply = await connection.request("dspex.v1.run.inline", json.dumps(request).encode(), timeout=20)
    body = reply.data
    if name := (reply.headers or {}).get("Dspex-Object"):
        store = await connection.jetstream().object_store("dspex_objects")
        body = (await store.get(name)).data
        await store.delete(name)
    result = json.loads(body)
    print(result["status"], len(result["output"]["text"]), bool(name))
    assert not any(name.startswith("dspex") for name in sys.modules)
    await connection.close()

asyncio.run(main(sys.argv[1]))
"""


def test_a_client_that_is_not_ours_reads_a_large_result(running: RunningSystem) -> None:
    done = subprocess.run([sys.executable, "-c", RAW, running.url], capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["succeeded", "800000", "True"]


async def test_a_client_that_is_not_ours_asks_with_an_object(raw: Nats, client: dspex.Client) -> None:
    store = await raw.jetstream().object_store(OBJECTS)
    name = ".said.00112233445566778899aabb"
    request = {"definition": {"name": "echo", "steps": [{"native": "rough.echo"}]}, "input": {"text": TEXT}}
    await store.put(name, json.dumps(request).encode())
    headers = {"Dspex-Object": name}
    reply = await raw.request("dspex.v1.submit.inline", b"", timeout=20, headers=headers)
    assert "session" in json.loads(reply.data)
    with anyio.fail_after(10):
        while name in await objects_of(client, ""):
            await anyio.sleep(0.01)
