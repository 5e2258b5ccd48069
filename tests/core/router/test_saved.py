"""A session that was saved and restored is the one that it was: whatever follows gives the same commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_bus.wire import SessionAccepted
from dspex_router.core import Recorded, Saved, Session, decide, restore, resume, save, view

from .building import fold, snapshot
from .recording import FOLDER, SAVED, Recording, told
from .scenarios import SCENARIOS
from .test_replay import chooser, runs
from .world import World

JOURNALS = sorted(FOLDER.glob("*.json"))


def kept(first: Recorded, state: Session) -> Session:
    """A session by way of bytes."""
    return restore(first, msgspec.json.decode(msgspec.json.encode(save(state)), type=Saved))


def told_of(state: Session) -> dict[str, Any]:
    """All that a session holds and that may still matter: not a map's items, of those that have ended, and not a loop's
    last round, which is forgotten."""
    found = snapshot(state, without=("child", "items"))
    for name, run in {"root": state.root, **state.runs}.items():
        if run.open and hasattr(run, "child"):
            found["runs"][name]["child"] = run.child.id
        if run.open and hasattr(run, "items"):
            found["runs"][name]["items"] = run.items
    return found


def check(journal: list[Recorded], cut: int) -> None:
    before, rest = journal[:cut], journal[cut:]
    state, other = fold(before), kept(journal[0], fold(before))
    assert told_of(other) == told_of(state)
    assert list(other.runs) == list(state.runs)
    assert view(other) == view(state)
    assert resume(other) == resume(state)
    for recorded in rest:
        state, commands = decide(state, recorded)
        other, again = decide(other, recorded)
        assert again == commands
        assert list(other.waits) == list(state.waits)
    assert told_of(other) == told_of(state)
    assert view(other) == view(state)


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_a_recorded_journal_cut_anywhere(path: Path) -> None:
    journal = [step.recorded for step in msgspec.json.decode(path.read_bytes(), type=Recording).steps]
    for cut in range(1, len(journal) + 1):
        check(journal, cut)


def test_every_scenario_is_saved() -> None:
    assert {scenario.__name__ for scenario in SCENARIOS} <= {path.stem for path in SAVED.glob("*.jsonl")}


@pytest.mark.parametrize("path", sorted(SAVED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_what_an_older_release_has_saved_goes_on_as_it_did_there(path: Path) -> None:
    steps = msgspec.json.decode((FOLDER / f"{path.stem}.json").read_bytes(), type=Recording).steps
    kept = msgspec.json.Decoder(Saved).decode_lines(path.read_bytes())
    for cut, saved in enumerate(kept, 1):
        state = restore(steps[0].recorded, saved)
        for step in steps[cut:]:
            state, commands = decide(state, step.recorded)
            assert msgspec.json.decode(msgspec.json.encode(told(commands))) == step.commands, f"{step.sequence}"


@settings(max_examples=250)
@given(run=runs(), orderly=st.booleans(), data=st.data())
def test_whatever_happened_before_and_happens_then(run: SessionAccepted, orderly: bool, data: st.DataObject) -> None:
    world = World(accepted=run, choose=chooser(data), orderly=orderly)
    for _ in range(data.draw(st.integers(0, 60))):
        moves = world.moves()
        moves[world.choose(len(moves))]()
    if data.draw(st.booleans()):
        world.settle()
    check(world.journal, data.draw(st.integers(1, len(world.journal))))
