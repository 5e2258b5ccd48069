"""What starts a system or a part of one: ``up``, ``serve``, ``pool``, ``router``, ``offline-lm``."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

import dspex
from dspex_bus import EmbeddedServer

from .conftest import RunningSystem, command, first_line
from .processes import await_gone, descendants, dspex_here, offline_environment
from .processes import dspex as run_dspex

pytestmark = pytest.mark.anyio

STEPS = """
import dspex
import msgspec

handlers = dspex.Handlers()

class Text(msgspec.Struct):
    text: str

@handlers.handler("mine.{name}")
def {name}(request: Text) -> dict:
    return {{"{name}": request.text.{method}()}}
"""

PROGRAM = """
import dspy

class Twice(dspy.Module):
    \"\"\"Ask twice and keep both answers.\"\"\"

    def __init__(self):
        super().__init__()
        self.ask = dspy.Predict("question -> answer")

    def forward(self, question):
        return {"first": self.ask(question=question).answer, "second": self.ask(question=question).answer}
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A user's own code in a folder of its own, installed nowhere."""
    folder = tmp_path / "work"
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "__init__.py").touch()
    (folder / "mine" / "loud.py").write_text(STEPS.format(name="loud", method="upper"))
    (folder / "mine" / "quiet.py").write_text(STEPS.format(name="quiet", method="lower"))
    (folder / "mine" / "programs.py").write_text(PROGRAM)
    return folder


async def test_up_with_ones_own_handlers_and_modules_and_ctrl_c(package: Path) -> None:
    own = ("--handlers", "mine.loud:handlers", "--handlers", "mine.quiet:handlers", "--module", "mine.programs:Twice")
    with command("up", "--port", "0", "--native", "0", "--dspy", "1", *own, "--json", cwd=package) as up:
        ready = json.loads(first_line(up))
        assert ready["offline"] is True
        async with dspex.connect(ready["server"]) as client:
            both = dspex.pipeline(
                [
                    dspex.parallel([dspex.native("mine.loud"), dspex.native("mine.quiet")]),
                    dspex.module("mine.programs:Twice", save_as="asked"),
                ],
                output=["loud", "quiet", "asked"],
            )
            output = (await client.run(both, {"text": "Hey", "question": "What is 2 plus 3?"})).output
            assert output == {"loud": "HEY", "quiet": "hey", "asked": {"first": "5", "second": "5"}}
            assert {pool.pool for pool in (await client.pools()).pools} == {"dspy", "mine", "optimize"}
        assert (package / ".dspex").is_dir()
        started = descendants(up.pid)
        assert len(started) == 5  # the server, a worker of each pool, and who kills what they leave behind
        os.kill(up.pid, signal.SIGINT)
        assert up.wait(20) == 130
        await_gone(started)


@pytest.mark.slow
async def test_sessions_go_on_at_the_next_start(tmp_path: Path) -> None:
    arguments = ("up", "--port", "0", "--dspy", "0", "--data", str(tmp_path), "--json")
    waits = dspex.pipeline(
        [dspex.wait("go"), dspex.native("template", template="{{ word }}, and on it went")], output=["text"]
    )
    with command(*arguments) as up:
        async with dspex.connect(json.loads(first_line(up))["server"]) as client:
            session = (await client.submit(waits)).id
    with command(*arguments) as up:
        async with dspex.connect(json.loads(first_line(up))["server"]) as client:
            await client.session(session).signal("go", {"word": "Stop"})
            result = await client.session(session).result(timeout_s=20)
            assert result.output == {"text": "Stop, and on it went"}


@pytest.mark.slow
def test_port_or_data_in_use(running: RunningSystem, tmp_path: Path) -> None:
    port = running.url.rpartition(":")[2]
    taken = run_dspex("up", "--port", port, "--data", str(tmp_path / "a"), "--json")
    assert taken.returncode == 1
    error = json.loads(taken.stdout)["error"]
    assert (error["code"], port in error["message"]) == ("port_in_use", True)

    shared = run_dspex("up", "--port", "0", "--data", str(running.data), "--json")
    assert shared.returncode == 1
    assert json.loads(shared.stdout)["error"]["code"] == "data_in_use"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--port", "0", "--dspy", "0", "--handlers", "nowhere:handlers"], "No module named 'nowhere'"),
        (["up", "--port", "0", "--dspy", "0", "--module", "mine.programs:Twice"], "need workers of the pool dspy"),
        (["up", "--port", "0", "--handlers", "native:handlers"], "built in"),
        (["serve", "mine.loud:nothing"], "no attribute 'nothing'"),
        (["serve", "mine.loud:Text"], "must be a dspex.Handlers"),
        (["serve", "mine.loud:handlers", "--pool", "dspy"], "built in"),
        (["pool", "native", "--module", "mine.programs:Twice"], "no DSPy modules"),
        (["pool", "dspy", "--module", "mine.loud:Text"], "dspy.Module class"),
        (["offline-lm", "--port", "PORT"], "cannot listen"),
    ],
)
def test_what_cannot_start_says_why(
    running: RunningSystem, package: Path, arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = running.url.rpartition(":")[2]
    monkeypatch.chdir(package)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = {*sys.modules}
    done = dspex_here(*(port if one == "PORT" else one for one in arguments), environment=running.environment)
    for name in {name for name in sys.modules if name.partition(".")[0] == "mine"} - before:
        del sys.modules[name]
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
async def test_parts_on_their_own(package: Path) -> None:
    """A server, a model's stand-in, pools and a router, each started by itself; pools wait for the router."""
    async with EmbeddedServer() as server:
        here = offline_environment(DSPEX_SERVER=server.url)
        serve = ("serve", "mine.loud:handlers", "--pool", "shouting", "--size", "2", "--json")
        with (
            command(*serve, environment=here, cwd=package) as serving,
            command("offline-lm", "--port", "0", "--json") as lm,
        ):
            model = json.loads(first_line(lm))
            with (
                command("pool", "native", "--json", environment={**here, **model}) as native,
                command("router", "--json", environment=here) as router,
            ):
                assert json.loads(first_line(router)) == {"server": server.url}
                assert json.loads(first_line(native))["pool"] == "native"
                assert json.loads(first_line(serving)) == {"pool": "shouting", "workers": 2, "server": server.url}
                async with dspex.connect(server.url) as client:
                    ask = dspex.pipeline(
                        [dspex.native("predict", signature="question -> text"), dspex.native("mine.loud")]
                    )
                    result = await client.run(ask, {"question": "What is 2 plus 3?"})
                    assert result.output == {"loud": "5"}


def test_pool_without_a_model_says_so(running: RunningSystem) -> None:
    import subprocess
    import sys

    with subprocess.Popen(
        [sys.executable, "-m", "dspex", "pool", "native"],
        env=running.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as pool:
        assert pool.stdout is not None
        assert pool.stdout.readline() == "pool native is ready; Ctrl-C drains and stops it\n"
        pool.send_signal(signal.SIGTERM)
        _, said = pool.communicate(timeout=20)
        assert "lm_not_configured" in said
        assert pool.returncode == 0
