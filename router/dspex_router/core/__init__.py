"""The session core: pure decisions, ``decide(state, event) -> (state, commands)``."""

from .child import child_id
from .commands import (
    Command,
    Dispatch,
    Finish,
    RecordEnd,
    RecordOutcome,
    SetTimer,
    StartChild,
    TellCancelled,
    TellChild,
)
from .ending import finish, result_of
from .events import DeadlinePassed, Event, Recorded, RetryDue, StepDue, Timer
from .idle import children, let_go, unwanted, wakes_at
from .keeping import keeping
from .saved import Saved, restore, save
from .session import decide, is_over, resume
from .state import Session
from .view import view

__all__ = [
    "Command",
    "DeadlinePassed",
    "Dispatch",
    "Event",
    "Finish",
    "RecordEnd",
    "RecordOutcome",
    "Recorded",
    "RetryDue",
    "Saved",
    "Session",
    "SetTimer",
    "StartChild",
    "StepDue",
    "TellCancelled",
    "TellChild",
    "Timer",
    "child_id",
    "children",
    "decide",
    "finish",
    "is_over",
    "keeping",
    "let_go",
    "restore",
    "result_of",
    "resume",
    "save",
    "unwanted",
    "view",
    "wakes_at",
]
