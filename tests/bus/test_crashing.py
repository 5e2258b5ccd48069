"""Places to die at: how they are named, and that nothing happens where none was told."""

from __future__ import annotations

import subprocess
import sys
from typing import NoReturn

import anyio
import pytest

from dspex_bus import crashing, subjects

pytestmark = pytest.mark.anyio


class Died(Exception):
    pass


def die() -> NoReturn:
    raise Died


@pytest.mark.parametrize(
    ("subject", "kind"),
    [
        (subjects.accepted(3, "s"), "journal.accepted"),
        (subjects.outcome(3, "s", "native", "0-1", 2), "journal.step"),
        (subjects.end(3, "s"), "journal.end"),
        (subjects.task("native", "normal", "s", "0", 1), "task"),
        (subjects.cancelled("s"), "cancelled"),
        ("$KV.dspex_live.3.s", "dspex_live"),
        ("_INBOX.abc.1", "answer"),
        ("somewhere.else", "other"),
    ],
)
def test_what_a_subject_is_for(subject: str, kind: str) -> None:
    assert crashing.kind(subject) == kind


def test_it_dies_the_time_that_was_told() -> None:
    before, after, _ = crashing.places("store.task.before:2", die)
    subject = subjects.task("native", "normal", "s", "0", 1)
    before("store", subject)
    after("store", subject)
    before("store", subjects.end(3, "s"))
    before("say", subject)
    with pytest.raises(Died):
        before("store", subject)


async def test_it_dies_once_the_server_has_seen_what_was_said() -> None:
    seen, dead = anyio.Event(), anyio.Event()

    def dies() -> NoReturn:
        assert seen.is_set()
        dead.set()
        raise Died

    _, _, sent = crashing.places("ack.task.after", dies)
    sent("ack", subjects.task("native", "normal", "s", "0", 1), seen.wait)
    await anyio.sleep(0.01)
    assert not dead.is_set()
    seen.set()
    with anyio.fail_after(5):
        await dead.wait()


def test_it_names_each_place_once(capfd: pytest.CaptureFixture[str]) -> None:
    before, _, _ = crashing.places("?", die)
    for _ in range(2):
        before("say", subjects.cancelled("s"))
    assert capfd.readouterr().err == "crash place say.cancelled.before\n"


@pytest.mark.parametrize("told", [None, ""])
def test_nothing_is_done_where_nothing_is_told(told: str | None) -> None:
    assert len(set(crashing.places(told, die))) == 1
    assert crashing.places(told, die)[0]("store", "anything") is None


def test_a_process_is_told_by_its_environment() -> None:
    program = "from dspex_bus import crashing; crashing.before('say', 'dspex.v1.x'); print('alive')"
    for place, code in (("say.x.before", -9), ("say.y.before", 0)):
        done = subprocess.run([sys.executable, "-c", program], env={crashing.CRASH_AT: place}, capture_output=True)
        assert done.returncode == code
