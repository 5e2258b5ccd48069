"""What the journal holds: a session is the fold of these events, in the order stored.

The tag is the event's type, also sent as the ``ce-type`` header with ``dspex.`` before it. Times on the
wire are milliseconds since the Unix epoch; durations of steps are microseconds.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from .definition import Budget, Priority
from .plan import Plan

JOURNAL_FORMAT = 2
"""What a session needs of those who fold its journal. It is raised where an older router would misread one: 2 may have
snapshots, and kept groups and rounds."""

FORMAT_OF_SNAPSHOTS = 2

EndStatus = Literal["succeeded", "failed", "cancelled", "timed_out"]


class ErrorInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An error as it travels: a stable ``code``, a message a person can act on, JSON-friendly details."""

    code: str
    message: str
    retryable: bool = False
    details: dict[str, Any] = field(default_factory=dict)


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the step's LM calls used. ``cached_tokens``, of the ``input_tokens``, came from the provider's own cache;
    ``saved_calls`` were answered by ours and used nothing. ``cost`` is in the operator's currency, absent where
    no price is set."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    model: str = ""
    cached_tokens: int = 0
    saved_calls: int = 0
    cost: float | None = None

    def plus(self, other: Usage | None) -> Usage:
        """Both together. The cost is that of the calls which have a price."""
        if other is None:
            return self
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            model=other.model or self.model,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            saved_calls=self.saved_calls + other.saved_calls,
            cost=sum(costs) if costs else None,
        )


class Parent(Struct, frozen=True, kw_only=True):
    """The step of another session that started this one, and that its end is the outcome of."""

    session: str
    partition: int
    node: str
    attempt: int


class Origin(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The session this one was made from, by a retry or a fork, and the step it goes on from."""

    session: str
    node: str = ""


class Watched(Struct, frozen=True, kw_only=True):
    """Where a session's tokens are said that runs as a step of another with ``stream``: under the ``session`` that no
    step started, and below the place ``node`` in it."""

    session: str
    node: str


class Rounds(Struct, frozen=True, kw_only=True):
    """Where a loop goes on: after so many rounds, which wrote ``fields``."""

    done: int
    fields: dict[str, Any]


class SessionAccepted(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session.accepted"):
    """``deadline_ms`` is absolute. ``reply`` is where the result goes when the session ends, '' for a submit. ``kept``
    holds the outputs of steps that need not run again, or what all the steps below wrote, by their place; ``rounds``
    where loops go on; ``children``, by their steps' places, sessions that pipelines within go on from. ``tenant`` is
    who it runs for. With ``stream`` its steps say tokens as they come. ``thread`` is the conversation it belongs to, ''
    for its own. ``priority`` is the lane of its tasks. ``format`` is the journal's, ``release`` the one that accepted
    it: who knows only older formats leaves the session alone."""

    session: str
    plan: Plan
    input: dict[str, Any]
    deadline_ms: int
    reply: str = ""
    reply_content: str = "application/json"
    parent: Parent | None = None
    origin: Origin | None = None
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    rounds: dict[str, Rounds] = field(default_factory=dict)
    children: dict[str, str] = field(default_factory=dict)
    budget: Budget | None = None
    tenant: str = ""
    stream: bool = False
    thread: str = ""
    watched: Watched | None = None
    priority: Priority = "normal"
    format: int = 1
    release: str = ""


class Followed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step that travelled with one before it and succeeded, at its first attempt and in the same worker."""

    node: str
    outputs: dict[str, Any]
    started_ms: int = 0
    duration_us: int = 0
    usage: Usage | None = None


class StepSucceeded(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="step.succeeded"):
    """``program`` is the digest of the stored program that ran, where the step named one. ``then`` are the steps that
    travelled with this one and have succeeded too, in order; nothing else is stored of them."""

    outputs: dict[str, Any]
    cached: bool = False
    worker: str = ""
    started_ms: int = 0
    duration_us: int = 0
    usage: Usage | None = None
    program: str = ""
    then: tuple[Followed, ...] = ()


class StepFailed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="step.failed"):
    """``retry_after_ms``: the callee asked not to be tried again before that many milliseconds."""

    error: ErrorInfo
    worker: str = ""
    started_ms: int = 0
    duration_us: int = 0
    retry_after_ms: int = 0
    usage: Usage | None = None


class StepTimedOut(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="step.timed_out"):
    error: ErrorInfo
    worker: str = ""
    started_ms: int = 0
    duration_us: int = 0
    usage: Usage | None = None


class StepCancelled(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="step.cancelled"):
    reason: str = ""


class StepLost(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="step.lost"):
    """The attempt was delivered ``deliveries`` times and no worker lived to tell its outcome."""

    error: ErrorInfo
    deliveries: int = 0


class CancelRequested(
    Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session.cancel_requested"
):
    reason: str = ""


class SessionPaused(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session.paused"):
    """Steps that run go on; none is started until the session is resumed."""

    reason: str = ""


class SessionResumed(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session.resumed"):
    pass


class SignalReceived(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session.signalled"):
    """``id`` is the sender's own: the same id twice is one signal. Kept until a wait of that name takes it."""

    name: str
    id: str
    payload: dict[str, Any] = field(default_factory=dict)


class SessionSnapshot(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session.snapshot"):
    """What a long session's events come to, up to the sequence ``through``: outcomes before it may be gone. ``length``
    counts the events, ``due`` is the length from which the next one is worth its size. ``objects`` are the bodies of
    outcomes that are summed up since the one before. ``state`` is the routers' own; pass it over."""

    through: int
    length: int
    due: int
    objects: tuple[str, ...] = ()
    state: dict[str, Any] = field(default_factory=dict)


class SessionEnded(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="session.ended"):
    """``output`` is there when ``status`` is ``succeeded``, else ``error``. ``usage`` is that of all its steps."""

    status: EndStatus
    output: dict[str, Any] | None = None
    error: ErrorInfo | None = None
    usage: Usage | None = None


StepOutcome = StepSucceeded | StepFailed | StepTimedOut | StepCancelled | StepLost
Control = SessionPaused | SessionResumed
JournalEvent = (
    SessionAccepted | StepOutcome | CancelRequested | Control | SignalReceived | SessionSnapshot | SessionEnded
)
