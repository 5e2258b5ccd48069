"""What clients send and get.

JSON by default; ``Content-Type: application/msgpack`` selects msgpack, and the reply follows.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from .definition import TOKEN, Budget, Implementation, PipelineDefinition, Priority, Seconds, Tenant
from .journal import EndStatus, ErrorInfo, JournalEvent, Origin, Parent, Usage
from .plan import Plan
from .presence import PoolStatus

Status = Literal["running", "succeeded", "failed", "cancelled", "timed_out"]
SessionId = Annotated[str, Meta(pattern=TOKEN)]


class RunRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``run`` and ``submit``. ``definition`` only on the pipeline name ``inline``.

    ``session`` is the client's own id for the session, if it wants one. ``durability: none`` (``run`` only) keeps the
    run out of every stream. ``budget`` stands in for the pipeline's; ``tenant`` is who the run is for, '' for nobody in
    particular. With ``stream`` every step says the model's tokens as they come. ``thread`` names the
    conversation that the run's steps with ``remember`` go on with. ``priority`` stands in for the pipeline's.
    """

    input: dict[str, Any] = field(default_factory=dict)
    definition: PipelineDefinition | None = None
    session: SessionId | None = None
    timeout_s: Seconds | None = None
    durability: Literal["stored", "none"] = "stored"
    budget: Budget | None = None
    tenant: Tenant = ""
    stream: bool = False
    thread: SessionId | None = None
    priority: Priority | None = None


class Submitted(Struct, frozen=True, kw_only=True):
    """Accepted means stored. ``events`` is the subject to subscribe to; ``sequence`` is that of the first event."""

    session: str
    partition: int
    sequence: int
    events: str


class RunResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    session: str
    status: EndStatus
    output: dict[str, Any] | None = None
    error: ErrorInfo | None = None
    usage: Usage | None = None


class CallRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One operation, unstored. ``with`` holds its constants (signature, template, model…), ``inputs`` its fields.
    ``budget`` and ``tenant`` are as for a run; ``used`` is what was used of the budget before."""

    with_: dict[str, Any] = field(name="with", default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)
    implementation: Implementation = "auto"
    pool: str | None = None
    timeout_s: Seconds | None = None
    budget: Budget | None = None
    used: Usage | None = None
    tenant: Tenant = ""


class CallReply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``implementation``, ``handler``, ``pool`` and ``worker`` say what ran."""

    outputs: dict[str, Any]
    implementation: Literal["native", "dspy"]
    handler: str
    pool: str
    worker: str = ""
    duration_us: int = 0
    usage: Usage | None = None


class SessionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``session.get``."""

    session: SessionId


class ResultRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``session.result``: waits up to ``wait_s`` seconds for the end, then answers ``deadline_exceeded``."""

    session: SessionId
    wait_s: Annotated[float, Meta(ge=0, le=3600)] = 0


class CancelRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``session.cancel``. The reply, the session as it ended, comes when nothing of it is accepted or started any
    more, also to who asks again. ``deadline_exceeded``: that is still to come; ask again."""

    session: SessionId
    reason: str = ""


class PauseRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``session.pause`` and ``session.resume``. The reply is the session's state once the request is stored."""

    session: SessionId
    reason: str = ""


class SignalRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``session.signal``. ``id`` is the sender's own, one is made up without it: the same id twice is one
    signal."""

    session: SessionId
    name: SessionId
    id: SessionId | None = None
    payload: dict[str, Any] = field(default_factory=dict)


class SignalReply(Struct, frozen=True, kw_only=True):
    """The signal is stored. ``created`` is false where one with this id was there before."""

    session: str
    name: str
    id: str
    created: bool


class ForkRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``session.retry`` (a session that ended without success goes on from what failed, its successes kept) and
    ``session.fork``: a new session that keeps what was done before step ``node`` of this one (its place, or its name
    where one step alone has it), with ``input`` merged over this one's. Either has the signals that no wait had taken
    by then. ``id`` is the new session's, if the client wants one; ``timeout_s`` bounds it anew."""

    session: SessionId
    node: Annotated[str, Meta(max_length=1024)] | None = None
    input: dict[str, Any] = field(default_factory=dict)
    id: SessionId | None = None
    timeout_s: Seconds | None = None


class EventsRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``session.events``: events with a sequence greater than ``after``, oldest first. With ``snapshots``, the one
    that stands for what is gone is among them, and nothing that it sums up but the beginning."""

    session: SessionId
    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 256
    snapshots: bool = False


class StoredEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``sequence`` orders all events and is where to resume; ``time_ms`` is when it was stored."""

    sequence: int
    time_ms: int
    event: JournalEvent
    pool: str = ""
    node: str = ""
    attempt: int = 0


class EventPage(Struct, frozen=True, kw_only=True):
    """``ended``: the last event of the session is in this page or before it. ``compacted``: outcomes up to that
    sequence are gone, summed up in a snapshot; 0 where there are all."""

    session: str
    events: tuple[StoredEvent, ...]
    next_after: int
    ended: bool
    compacted: int = 0


class StepReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one node of the plan went, its last attempt. ``status`` is ``pending`` before it starts. Of a node that runs
    more than once, under a map or a loop, only the numbers are told: ``runs`` started so far, and how they ended."""

    node: str
    name: str
    kind: Literal["task", "pipeline", "sleep", "wait", "sequence", "parallel", "map", "branch", "loop"]
    status: Literal["pending", "running", "waiting", "succeeded", "failed", "timed_out", "cancelled", "lost"]
    implementation: Literal["native", "dspy", ""] = ""
    handler: str = ""
    pool: str = ""
    worker: str = ""
    attempt: int = 0
    started_ms: int = 0
    duration_us: int = 0
    error: ErrorInfo | None = None
    usage: Usage | None = None
    program: str = ""
    runs: int = 0
    succeeded: int = 0
    failed: int = 0
    child: str = ""


class SessionView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``waiting_for`` names the signals that its waits have not got yet. ``usage`` is that of all its steps so far."""

    session: str
    pipeline: str
    digest: str
    status: Status
    accepted_ms: int
    ended_ms: int = 0
    deadline_ms: int = 0
    cancel_requested: bool = False
    paused: bool = False
    waiting_for: tuple[str, ...] = ()
    parent: Parent | None = None
    origin: Origin | None = None
    input: dict[str, Any] = field(default_factory=dict)
    output: dict[str, Any] | None = None
    error: ErrorInfo | None = None
    plan: Plan | None = None
    steps: tuple[StepReport, ...] = ()
    usage: Usage | None = None
    budget: Budget | None = None
    tenant: str = ""


class SessionListRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``session.list``: live sessions, and with ``ended`` those kept after their end, newest first. ``before`` is
    the ``next`` of the page before."""

    ended: bool = True
    before: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 50


class SessionSummary(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``pipeline`` is '' and ``accepted_ms`` 0 where the session takes a newer release than the router that answers."""

    session: str
    pipeline: str
    status: Status
    accepted_ms: int
    ended_ms: int = 0


class SessionList(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``next`` is where to go on, 0 at the end. A page with fewer than ``limit``, or none, need not be the last: one
    answer does not look at everything."""

    sessions: tuple[SessionSummary, ...]
    next: int = 0


class PipelineRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``pipeline.get`` and ``pipeline.delete``; ``version`` is a digest, the newest without it."""

    name: str
    version: str | None = None


class PipelinePut(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """For ``pipeline.put``."""

    definition: PipelineDefinition


class PipelineView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    version: str
    stored_ms: int
    definition: PipelineDefinition | None = None


class PipelineList(Struct, frozen=True, kw_only=True):
    pipelines: tuple[PipelineView, ...]


class PoolList(Struct, frozen=True, kw_only=True):
    """For ``pools.list`` (the request is empty)."""

    pools: tuple[PoolStatus, ...]
