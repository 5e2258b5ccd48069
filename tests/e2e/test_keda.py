"""The scaler's configuration in the deployment page names what is there, and reads what it should."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml

from dspex_bus import Delivery, NatsBus, subjects
from dspex_bus.server import find_nats_server
from dspex_bus.streams import TASKS, buckets, streams

from .processes import ROOT

pytestmark = pytest.mark.anyio


def triggers() -> list[dict[str, str]]:
    page = (ROOT / "docs" / "deployment.md").read_text()
    (snippet,) = re.findall(r"```yaml\n(apiVersion: keda.*?)```", page, re.DOTALL)
    return [trigger["metadata"] for trigger in yaml.safe_load(snippet)["spec"]["triggers"]]


@contextmanager
def monitored_server(folder: Path) -> Iterator[tuple[str, str]]:
    """Its URL and its monitoring port's."""
    command = [find_nats_server(), "-js", "-sd", str(folder), "-a", "127.0.0.1", "-p", "-1", "-m", "-1"]
    with subprocess.Popen([*command, "--ports_file_dir", str(folder)], stderr=subprocess.DEVNULL) as process:
        try:
            file = folder / f"nats-server_{process.pid}.ports"
            while not file.exists() or not file.read_text():
                assert process.poll() is None
            ports = json.loads(file.read_text())
            yield ports["nats"][0], ports["monitoring"][0]
        finally:
            process.terminate()


def lag(monitoring: str, trigger: dict[str, str]) -> int:
    """As the scaler reads it."""
    with urllib.request.urlopen(f"{monitoring}/jsz?acc={trigger['account']}&consumers=true&config=true") as answer:
        found: dict[str, Any] = json.load(answer)
    (account,) = [one for one in found["account_details"] if one["name"] == trigger["account"]]
    (stream,) = [one for one in account["stream_detail"] if one["name"] == trigger["stream"]]
    (consumer,) = [one for one in stream["consumer_detail"] if one["name"] == trigger["consumer"]]
    return int(consumer["num_pending"] + consumer["num_ack_pending"])


async def test_the_scaler_sees_what_waits_and_what_runs(tmp_path: Path) -> None:
    expected = {"dspy_high": 0, "dspy_normal": 3, "dspy_low": 1}
    assert {trigger["consumer"] for trigger in triggers()} == set(expected)
    came = anyio.Event()

    async def on_delivery(delivery: Delivery) -> None:
        came.set()

    with monitored_server(tmp_path) as (url, monitoring):
        async with NatsBus(url) as bus:
            await bus.prepare(streams(), buckets())
            for lane in subjects.LANES:
                durable, tasks = subjects.durable("dspy", lane), subjects.lane_tasks("dspy", lane)
                consumer = await bus.consume(TASKS, durable, tasks, on_delivery)
                for number in range(expected[durable]):
                    await bus.store_and_wait(subjects.task("dspy", lane, "s", str(number), 1), b"{}", once=True)
                if lane == "normal":
                    await consumer.want(1)
                    await came.wait()
            assert {trigger["consumer"]: lag(monitoring, trigger) for trigger in triggers()} == expected
