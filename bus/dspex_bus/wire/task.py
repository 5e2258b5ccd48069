"""What a worker is sent."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field, structs

from .._headers import RESENT, SENT
from .definition import Affinity, Budget
from .journal import Usage, Watched

__all__ = ["RESENT", "SENT", "Following", "Progress", "Task", "Unwanted", "alone"]


class Following(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step that travels with one before it, as its first attempt. The rest is as in its node of the plan."""

    node: str
    handler: str
    options: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, str] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    reads_all: bool = False
    writes: dict[str, str] = field(default_factory=dict)
    save_as: str | None = None
    timeout_ms: int


class Task(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of one step. Pool, session, node and attempt are in the subject of a stored task, and repeated here
    for the unstored ones (``dspex.v1.now.>``). ``options`` are the step's constants, ``inputs`` its
    fields of the context. ``timeout_ms`` runs from delivery; past ``deadline_ms`` (since the epoch) the attempt must
    not start. ``then`` are the steps that travel along: each starts once the one before it has succeeded, on the fields
    of ``context`` and what was written meanwhile; ``writes`` and ``save_as`` say what this step itself writes for them.
    ``budget`` is the run's, ``used`` what the run had used of it when the attempt was sent; ``tenant`` is who it
    runs for. With ``stream``, tokens are said as they come, under its own session or where ``watched`` says.
    ``thread`` is the key of the conversation that the step takes part in. ``home`` is the worker that is to run it
    if it lives, '' for any: ``affinity`` says how much that matters."""

    session: str
    node: str
    attempt: int
    partition: int
    handler: str
    implementation: Literal["native", "dspy"] = "native"
    options: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    timeout_ms: int
    cache_ms: int = 0
    deadline_ms: int
    budget: Budget | None = None
    used: Usage | None = None
    tenant: str = ""
    stream: bool = False
    watched: Watched | None = None
    thread: str = ""
    affinity: Affinity | None = None
    home: str = ""
    writes: dict[str, str] = field(default_factory=dict)
    save_as: str | None = None
    context: dict[str, Any] = field(default_factory=dict)
    then: tuple[Following, ...] = ()

    @property
    def longest_ms(self) -> int:
        """The time that the step and those which travel along may take together."""
        return self.timeout_ms + sum(following.timeout_ms for following in self.then)


def alone(task: Task) -> Task:
    """The task without the steps that travel along."""
    return structs.replace(task, writes={}, save_as=None, context={}, then=()) if task.then else task


class Progress(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Said on ``dspex.v1.progress.<session>.<node>.<attempt>``, not stored: the attempt runs, and how far it is.
    ``details`` are the handler's own, such as an optimizer's scores."""

    worker: str
    started_ms: int
    note: str = ""
    fraction: float | None = None
    details: dict[str, Any] = field(default_factory=dict)


class Unwanted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Said on ``dspex.v1.cancelled.<session>``, not stored: nobody wants these (node, attempt) any more; with none
    named, nothing of the session."""

    attempts: tuple[tuple[str, int], ...] = ()
