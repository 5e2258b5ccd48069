"""Sessions controlled from the command line, and dead letters."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

import dspex

from .conftest import RunningSystem

pytestmark = pytest.mark.anyio

APPROVAL: dict[str, Any] = {
    "name": "approval",
    "steps": [
        {"native": "template", "with": {"template": "{{ what }}?"}},
        {"wait": "approval"},
        {"native": "template", "with": {"template": "{{ text }} {{ answer }}"}},
    ],
}


def run(running: RunningSystem, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "dspex", *arguments]
    done = subprocess.run(command, env=running.environment, capture_output=True, text=True, timeout=40)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


def run_json(running: RunningSystem, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(running, *arguments, "--json", code=code))


@pytest.fixture
def session(running: RunningSystem, tmp_path: Any) -> str:
    """One that waits for its approval."""
    file = tmp_path / "approval.json"
    file.write_text(json.dumps(APPROVAL))
    started: str = run_json(running, "run", str(file), "what=Lunch", "--detach")["session"]
    return started


async def test_a_run_waits_for_a_signal_sent_by_another_program(
    running: RunningSystem, session: str, client: dspex.Client
) -> None:
    assert "stored" in run(running, "signal", session, "approval", "answer=yes", "--id", "one")
    assert not run_json(running, "signal", session, "approval", "answer=no", "--id", "one")["created"]
    assert (await client.session(session).result(timeout_s=20)).output == {"text": "Lunch? yes"}
    assert "session_ended" in run(running, "signal", session, "approval", code=1)


async def test_pause_and_resume(running: RunningSystem, session: str, client: dspex.Client) -> None:
    assert f"dspex resume {session}" in run(running, "pause", session, "--reason", "lunch")
    run(running, "signal", session, "approval", "answer=yes")
    assert run_json(running, "pause", session)["paused"]
    assert "goes on" in run(running, "resume", session)
    assert (await client.session(session).result(timeout_s=20)).output == {"text": "Lunch? yes"}


async def test_replay_shows_each_decision(running: RunningSystem, session: str, client: dspex.Client) -> None:
    run(running, "signal", session, "approval", "answer=yes")
    await client.session(session).result(timeout_s=20)
    text = run(running, "replay", session)
    assert "send 0 attempt 1 (template) to the pool native" in text
    assert "record step.succeeded for 1 attempt 1" in text
    assert "record the end: succeeded" in text
    lines = [json.loads(line) for line in run(running, "replay", session, "--json").splitlines()]
    assert [line["event"] for line in lines if line["event"] != "session.signalled"] == [
        "session.accepted",
        *["step.succeeded"] * 3,
        "session.ended",
    ]
    assert lines[-1]["phase"] == "ended"


async def test_fork_and_retry(running: RunningSystem, session: str, client: dspex.Client) -> None:
    run(running, "signal", session, "approval", "answer=no")
    await client.session(session).result(timeout_s=20)
    forked = run_json(running, "fork", session, "1", "what=Dinner")["session"]
    run(running, "signal", forked, "approval", "answer=yes")
    assert (await client.session(forked).result(timeout_s=20)).output == {"text": "Lunch? yes"}
    assert "session_not_failed" in run(running, "retry", session, code=1)

    doomed = run_json(running, "fork", session, "1")["session"]
    assert "cancel requested" in run(running, "cancel", doomed)
    await client.session(doomed).result(timeout_s=20)
    again = run_json(running, "retry", doomed)["session"]
    run(running, "signal", again, "approval", "answer=later")
    assert (await client.session(again).result(timeout_s=20)).output == {"text": "Lunch? later"}


async def test_dead_letters(running: RunningSystem, client: dspex.Client) -> None:
    """A task that kills its workers becomes a dead letter, with the reason and the original message."""
    die = dspex.pipeline([dspex.native("rough.die", retry=dspex.RetryPolicy(attempts=1))], name="deadly")
    handle = await client.submit(die)
    assert (await handle.result(timeout_s=40)).status == "failed"
    letters = run_json(running, "dead", "list", "--pool", "rough", "--limit", "1000")["letters"]
    (letter,) = [letter for letter in letters if letter["session"] == handle.id]
    assert (letter["reason"]["code"], letter["node"], letter["attempt"]) == ("worker_lost", "0", 1)
    number = str(letter["sequence"])
    shown = run_json(running, "dead", "show", number)
    assert json.loads(shown["data"])["handler"] == "rough.die"
    assert "worker_lost" in run(running, "dead", "show", number)
    again = run_json(running, "dead", "retry", number)["session"]
    view = await client.session(again).view()
    assert view.origin is not None
    assert view.origin.session == handle.id
    await client.session(again).cancel()
    assert "unknown_letter" in run(running, "dead", "drop", number, code=1)
    left = run_json(running, "dead", "list")["letters"]
    assert letter["sequence"] not in [letter["sequence"] for letter in left]
