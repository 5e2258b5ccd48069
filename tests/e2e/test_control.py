"""Sessions controlled from the command line, and dead letters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import dspex

from .conftest import RunningSystem
from .processes import dspex_here

if TYPE_CHECKING:
    from dspex._blocking import BlockingClient

APPROVAL: dict[str, Any] = {
    "name": "approval",
    "steps": [
        {"native": "template", "with": {"template": "{{ what }}?"}},
        {"wait": "approval"},
        {"native": "template", "with": {"template": "{{ text }} {{ answer }}"}},
    ],
}


def run(running: RunningSystem, *arguments: str, code: int = 0) -> str:
    done = dspex_here(*arguments, environment=running.environment)
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


def run_json(running: RunningSystem, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(running, *arguments, "--json", code=code))


@pytest.fixture
def client(running: RunningSystem) -> Iterator[BlockingClient]:
    """Without an event loop: each command has one of its own."""
    with dspex.connect_sync(running.url) as connected:
        yield connected


@pytest.fixture
def session(running: RunningSystem, tmp_path: Any) -> str:
    """One that waits for its approval."""
    file = tmp_path / "approval.json"
    file.write_text(json.dumps(APPROVAL))
    started: str = run_json(running, "run", str(file), "what=Lunch", "--detach")["session"]
    return started


def test_a_run_waits_for_a_signal_sent_by_another_program(
    running: RunningSystem, session: str, client: BlockingClient
) -> None:
    assert "stored" in run(running, "signal", session, "approval", "answer=yes", "--id", "one")
    assert not run_json(running, "signal", session, "approval", "answer=no", "--id", "one")["created"]
    assert (client.session(session).result(timeout_s=20)).output == {"text": "Lunch? yes"}
    assert "session_ended" in run(running, "signal", session, "approval", code=1)


def test_pause_and_resume(running: RunningSystem, session: str, client: BlockingClient) -> None:
    assert f"dspex resume {session}" in run(running, "pause", session, "--reason", "lunch")
    run(running, "signal", session, "approval", "answer=yes")
    assert run_json(running, "pause", session)["paused"]
    assert "goes on" in run(running, "resume", session)
    assert (client.session(session).result(timeout_s=20)).output == {"text": "Lunch? yes"}


def test_replay_shows_each_decision(running: RunningSystem, session: str, client: BlockingClient) -> None:
    run(running, "signal", session, "approval", "answer=yes")
    client.session(session).result(timeout_s=20)
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


def test_fork_and_retry(running: RunningSystem, session: str, client: BlockingClient) -> None:
    run(running, "signal", session, "approval", "answer=no")
    client.session(session).result(timeout_s=20)
    forked = run_json(running, "fork", session, "1", "what=Dinner")["session"]
    run(running, "signal", forked, "approval", "answer=yes")
    assert (client.session(forked).result(timeout_s=20)).output == {"text": "Lunch? yes"}
    assert "session_not_failed" in run(running, "retry", session, code=1)

    doomed = run_json(running, "fork", session, "1")["session"]
    assert "cancel requested" in run(running, "cancel", doomed)
    client.session(doomed).result(timeout_s=20)
    again = run_json(running, "retry", doomed)["session"]
    run(running, "signal", again, "approval", "answer=later")
    assert (client.session(again).result(timeout_s=20)).output == {"text": "Lunch? later"}


def test_dead_letters(running: RunningSystem, client: BlockingClient) -> None:
    """A task that kills its workers becomes a dead letter, with the reason and the original message."""
    die = dspex.pipeline([dspex.native("rough.die", retry=dspex.RetryPolicy(attempts=1))], name="deadly")
    handle = client.submit(die)
    assert (handle.result(timeout_s=40)).status == "failed"
    letters = run_json(running, "dead", "list", "--pool", "rough", "--limit", "1000")["letters"]
    (letter,) = [letter for letter in letters if letter["session"] == handle.id]
    assert (letter["reason"]["code"], letter["node"], letter["attempt"]) == ("worker_lost", "0", 1)
    number = str(letter["sequence"])
    shown = run_json(running, "dead", "show", number)
    assert json.loads(shown["data"])["handler"] == "rough.die"
    assert "worker_lost" in run(running, "dead", "show", number)
    again = run_json(running, "dead", "retry", number)["session"]
    view = client.session(again).view()
    assert view.origin is not None
    assert view.origin.session == handle.id
    client.session(again).cancel()
    assert "unknown_letter" in run(running, "dead", "drop", number, code=1)
    left = run_json(running, "dead", "list")["letters"]
    assert letter["sequence"] not in [letter["sequence"] for letter in left]
