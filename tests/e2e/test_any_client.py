"""Clients that import nothing of dspex: a raw nats-py script, and the JavaScript client."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from nats.aio.client import Client as Nats

import dspex

from .conftest import ROOT, RunningSystem

pytestmark = pytest.mark.anyio

SCRIPT = """
import asyncio, json, sys, nats

async def main(server):
    connection = await nats.connect(server)
    definition = {"name": "hello", "steps": [{"native": "template", "with": {"template": "Hello {{ name }}"}}]}
    request = {"definition": definition, "input": {"name": "Ada"}}
    reply = await connection.request("dspex.v1.run.inline", json.dumps(request).encode(), timeout=20)
    print(reply.data.decode())
    assert not any(name.startswith("dspex") for name in sys.modules)
    await connection.close()

asyncio.run(main(sys.argv[1]))
"""

JAVASCRIPT = ROOT / "examples" / "javascript"


def test_raw_nats_py_script(running: RunningSystem) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, running.url], capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["status"], result["output"]) == ("succeeded", {"text": "Hello Ada"})


async def test_msgpack_is_answered_in_msgpack(raw: Nats) -> None:
    import msgspec

    definition = {"name": "hello", "steps": [{"native": "template", "with": {"template": "Hello {{ name }}"}}]}
    body = msgspec.msgpack.encode({"definition": definition, "input": {"name": "Ada"}})
    headers = {"Content-Type": "application/msgpack"}
    reply = await raw.request("dspex.v1.run.inline", body, timeout=20, headers=headers)
    assert msgspec.msgpack.decode(reply.data)["output"] == {"text": "Hello Ada"}


async def test_services_are_visible(raw: Nats) -> None:
    info = json.loads((await raw.request("$SRV.INFO.dspex-router", timeout=5)).data)
    subjects = {endpoint["subject"] for endpoint in info["endpoints"]}
    assert {"dspex.v1.run.*", "dspex.v1.submit.*", "dspex.v1.session.events"} <= subjects


class Node:
    """The JavaScript client as a process; each line it prints is an object."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            ["node", "client.mjs", *arguments],
            cwd=JAVASCRIPT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)


@pytest.fixture
def node() -> Iterator[Any]:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    if not (JAVASCRIPT / "node_modules").is_dir():
        pytest.skip("the JavaScript client's packages are not installed; run: make setup")
    started: list[Node] = []

    def start(*arguments: str) -> Node:
        started.append(Node(*arguments))
        return started[-1]

    yield start
    for process in started:
        process.close()


async def test_javascript_reads_what_is_too_large_for_a_message(running: RunningSystem, node: Any) -> None:
    if not (JAVASCRIPT / "node_modules" / "@nats-io" / "obj").is_dir():
        pytest.skip("the JavaScript client's packages are not up to date; run: make setup")
    step = {"native": "template", "with": {"template": "{{ word * 700000 }}"}}
    definition = {"name": "large", "steps": [{**step, "name": "first"}, {**step, "name": "second"}]}
    lines = list(node(running.url, "submit", json.dumps({"definition": definition, "input": {"word": "x"}})).lines())
    assert [line["type"] for line in lines if "type" in line][-1] == "session.ended"
    assert lines[-1]["result"]["output"] == {"text": "x" * 700_000}


async def test_javascript_signals_a_run_once(running: RunningSystem, node: Any) -> None:
    definition = {
        "name": "approved",
        "steps": [
            {"wait": "approval", "save_as": "said", "name": "asked"},
            {"native": "template", "with": {"template": "{{ said.by }} agrees"}},
        ],
    }
    watching = node(running.url, "submit", json.dumps({"definition": definition, "input": {}})).lines()
    session = next(watching)["submitted"]["session"]
    arguments = (running.url, "signal", session, "approval", "one", json.dumps({"by": "Ada"}))
    assert [line["signalled"]["created"] for line in node(*arguments).lines()] == [True]
    lines = list(watching)
    assert "session.signalled" in [line.get("type") for line in lines]
    assert lines[-1]["result"]["output"]["text"] == "Ada agrees"
    assert [line["signalled"]["created"] for line in node(*arguments).lines()] == [False], "it was said before"
    late = node(running.url, "signal", session, "approval", "two", "{}")
    assert list(late.lines()) == []
    assert "session_ended" in late.process.stderr.read()


async def test_javascript_is_cut_off_resumes_and_gets_what_python_gets(
    running: RunningSystem, node: Any, client: dspex.Client, tmp_path: Path
) -> None:
    gate = tmp_path / "open"
    definition = {
        "name": "gated",
        "steps": [
            {"native": "template", "name": "before", "with": {"template": "{{ word }}!"}},
            {"native": "rough.wait_for_file", "with": {"path": str(gate)}, "inputs": {"text": "text"}},
            {"native": "template", "name": "after", "with": {"template": "{{ text }} {{ text }}"}},
        ],
    }
    first = node(running.url, "submit", json.dumps({"definition": definition, "input": {"word": "hey"}}))
    before: list[dict[str, Any]] = []
    for line in first.lines():
        before.append(line)
        if line.get("type") == "step.succeeded":
            break
    first.close()  # cut off in mid-run: the second step waits for the file
    session, last = before[0]["submitted"]["session"], before[-1]["sequence"]

    gate.touch()
    after = [line for line in node(running.url, "resume", session, str(last)).lines()]

    events = [line for line in before + after if "type" in line]
    assert [event["type"] for event in events] == [
        "session.accepted",
        "step.succeeded",
        "step.succeeded",
        "step.succeeded",
        "session.ended",
    ]
    sequences = [event["sequence"] for event in events]
    assert sequences == sorted(set(sequences))
    with anyio.fail_after(20):
        assert after[-1]["result"]["output"] == (await client.session(session).result()).output == {"text": "hey! hey!"}
        assert [event.sequence async for event in client.session(session).events()] == sequences
