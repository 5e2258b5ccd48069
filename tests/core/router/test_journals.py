"""Recorded journals must give the commands they gave when they were recorded (how: recording.py)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dspex_router.core import Session, decide, resume

from .recording import FOLDER, Recording, told
from .scenarios import SCENARIOS

JOURNALS = sorted(FOLDER.glob("*.json"))


def test_every_scenario_is_recorded() -> None:
    assert {scenario.__name__ for scenario in SCENARIOS} <= {path.stem for path in JOURNALS}


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.stem)
def test_a_recorded_journal_is_decided_as_it_was(path: Path) -> None:
    recorded = msgspec.json.decode(path.read_bytes(), type=Recording)
    state: Session | None = None
    for step in recorded.steps:
        state, commands = decide(state, step.recorded)
        assert msgspec.json.decode(msgspec.json.encode(told(commands))) == step.commands, f"event {step.sequence}"
    assert state is not None
    assert msgspec.json.decode(msgspec.json.encode(told(resume(state)))) == recorded.open
