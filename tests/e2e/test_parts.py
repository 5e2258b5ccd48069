"""The system's parts started one by one, as containers start them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import dspex
from dspex_bus import EmbeddedServer

from .conftest import RunningSystem, command, first_line, offline_environment
from .processes import dspex as command_line

pytestmark = pytest.mark.anyio


def doctor(environment: dict[str, str], *arguments: str) -> tuple[int, dict[str, str]]:
    """Its exit code, and the status of each check."""
    line = [sys.executable, "-m", "dspex", "doctor", "--json", *arguments]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=20)
    return done.returncode, {check["name"]: check["status"] for check in json.loads(done.stdout)}


@pytest.mark.slow
async def test_health_checks_follow_the_parts_and_a_pool_without_a_model_answers_offline() -> None:
    async with EmbeddedServer() as server:
        environment = {**offline_environment(), "DSPEX_SERVER": server.url}
        assert doctor(environment, "--require", "router") == (1, {"server": "ok", "router": "failed"})
        none = command_line("programs", "list", environment=environment)
        assert (none.returncode, "a router makes it" in none.stderr) == (1, True)
        with command("router", environment=environment) as router:
            assert "ready" in first_line(router)
            cache = command_line("cache", "stats", environment=environment)
            assert (cache.returncode, "no worker answered" in cache.stdout, cache.stderr) == (0, True, "")
            assert doctor(environment, "--require", "router") == (0, {"server": "ok", "router": "ok"})
            native = ("--require", "pool:native", "--here")
            assert doctor(environment, *native) == (1, {"server": "ok", "router": "ok", "pool native": "failed"})
            with command("pool", "native", "--offline", environment=environment) as pool:
                assert "no real model" in first_line(pool)
                while "is ready" not in first_line(pool):
                    pass
                assert doctor(environment, *native) == (0, {"server": "ok", "router": "ok", "pool native": "ok"})
                async with dspex.connect(server.url) as client:
                    made = await client.predict("question -> answer", question="What is a pool?", timeout_s=20)
                    assert made.answer
                    listed = await client.pools()
                assert [worker.model for worker in listed.pools[0].workers] == ["openai/offline-extractive"]


def test_workers_of_another_machine_are_not_here(running: RunningSystem) -> None:
    """``--here`` asks for this host's name; a container asks for its own."""
    environment = running.environment
    elsewhere = "import socket; socket.gethostname = lambda: 'elsewhere'; from dspex.cli import main; main()"
    line = [sys.executable, "-c", elsewhere, "doctor", "--json", "--require", "pool:native", "--here"]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "no live worker on elsewhere" in done.stdout
