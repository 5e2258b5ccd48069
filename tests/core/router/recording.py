"""Recorded journals: what a router folded, and what it decided at each event; and the session as it was saved after
each, as snapshots keep it.

    cd tests && python -m core.router.recording          record the scenarios that have no file yet

A file is never written again: sessions of the version that recorded it may still run. A version that decides otherwise
for one of them must not take over such sessions; change the core so that it decides the same, and record what is new
under a new name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from dspex_bus.wire import JournalEvent
from dspex_router.core import Command, Recorded, Saved, Session, decide, resume, save

from .scenarios import SCENARIOS

FOLDER = Path(__file__).parent / "journals"
SAVED = Path(__file__).parent / "saved"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stored event, where it was stored, and the commands that it gave."""

    sequence: int
    time_ms: int
    partition: int
    pool: str
    node: str
    attempt: int
    event: JournalEvent
    commands: list[Any]

    @property
    def recorded(self) -> Recorded:
        return Recorded(
            sequence=self.sequence,
            time_ms=self.time_ms,
            event=self.event,
            partition=self.partition,
            pool=self.pool,
            node=self.node,
            attempt=self.attempt,
        )


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """``open`` is what an owner that has just folded the journal must do."""

    about: str
    steps: list[Step]
    open: list[Any]


def told(commands: list[Command]) -> list[Any]:
    """Commands as JSON-friendly values; a dispatch under no limits as it was before there were any."""
    return [{type(command).__name__: _told(msgspec.to_builtins(command))} for command in commands]


def _told(command: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in command.items() if name != "limits" or value}


def recording(about: str, journal: list[Recorded]) -> Recording:
    state: Session | None = None
    steps = []
    for recorded in journal:
        state, commands = decide(state, recorded)
        values = {name: getattr(recorded, name) for name in Recorded.__struct_fields__}
        steps.append(Step(**values, commands=told(commands)))
    assert state is not None
    return Recording(about=about, steps=steps, open=told(resume(state)))


def all_saved(journal: list[Recorded]) -> list[Saved]:
    """The session after each event."""
    state: Session | None = None
    found = []
    for recorded in journal:
        state, _ = decide(state, recorded)
        found.append(msgspec.json.decode(msgspec.json.encode(save(state)), type=Saved))  # it will be folded on
    return found


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    SAVED.mkdir(exist_ok=True)
    for scenario in SCENARIOS:
        path = FOLDER / f"{scenario.__name__}.json"
        if not path.exists():
            made = recording(scenario.__doc__ or "", scenario().journal)
            path.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=1) + b"\n")
            print(f"recorded {path.name}")
        path = SAVED / f"{scenario.__name__}.jsonl"
        if not path.exists():
            path.write_bytes(msgspec.json.Encoder().encode_lines(all_saved(scenario().journal)))
            print(f"recorded {path.name}")


if __name__ == "__main__":
    main()
