"""What users write: a pipeline and its steps."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

TOKEN = r"^[A-Za-z0-9_-]{1,64}$(?!\n)"
"""What can be one subject token. Its end is said twice: to Python, ``$`` alone is also before a last line break."""

Seconds = Annotated[float, Meta(gt=0, le=31_536_000)]
LimitName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}(\.([A-Za-z0-9_-]{1,64}|\*))?$(?!\n)")]
"""A name, or two joined by a dot; ``tenant.*`` stands for each tenant that has no limit of its own."""

Tenant = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{0,64}$(?!\n)")]

Implementation = Literal["auto", "native", "dspy"]
Affinity = Literal["hint", "strict"]
Priority = Literal["high", "normal", "low"]


class RetryPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Attempt n+1 starts ``initial_s * factor**(n-1)`` seconds after attempt n failed, at most ``max_s``, with jitter.

    Only errors marked retryable are tried again, or, where ``codes`` is given, only those codes.
    """

    attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    initial_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.2
    factor: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max_s: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.2
    codes: tuple[str, ...] | None = None


class Budget(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What LM calls may use together: ``cost`` in the operator's currency, ``tokens`` in and out. None sets no limit.

    Before each call what it is expected to use is set aside, so that calls side by side go over it no further than by
    the last of them, and by what others use beyond what was expected."""

    cost: Annotated[float, Meta(ge=0)] | None = None
    tokens: Annotated[int, Meta(ge=0)] | None = None


JoinKind = Literal["all", "any", "quorum", "best_effort"]


class CaseDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way of a ``branch``: ``when`` is a condition over the context, ``do`` the steps it leads to."""

    when: str
    do: Annotated[tuple[StepDefinition, ...], Meta(min_length=1)]


class StepDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One step. Exactly one of ``native``, ``module``, ``call``, ``pipeline``, ``parallel``, ``sequence``, ``map``,
    ``branch``, ``loop``, ``sleep_s`` and ``wait`` says its kind.

    ``with`` holds constants; every other field the step reads comes from the run's context by name, or from
    the dotted path that ``inputs`` gives for it (``{"query": "question"}``, ``{"text": "parts.0.text"}``).
    Its outputs are merged into the context by name, under the names that ``outputs`` gives, or, with
    ``save_as``, as one object under that name. With ``cache_s`` its outputs are kept that many seconds, keyed by
    handler, constants and inputs: an equal step within that time is answered without running. With ``stream`` it says
    the model's tokens as they come, whether the run asks for that or not. With ``remember`` it takes part in a
    conversation: it is shown the turns before, and its own inputs and outputs become the next turn of the run's
    ``thread``, or of the session's own where the run names none. ``affinity`` is for handlers that keep something of
    the session in their process: with ``strict`` the step is run by the worker that ran the session's last step with
    an affinity in that pool, with ``hint`` only if that has a slot free; by any other where that worker is gone.
    ``limits`` names the limits that the step is under: it is sent once it has a permit of each.
    Steps that follow each other in one pool travel as one task where their handlers are declared pure, or carry those
    that are; not those with ``fuse: false``.

    ``pipeline`` runs a stored pipeline (its newest version, or ``version``) as a session of its own.

    ``parallel`` and ``map`` join: ``all`` branches, ``any`` (the first success; the others are abandoned), a ``quorum``
    of successes, or ``best_effort`` (whatever there is at ``timeout_s``, never a failure). With ``on_error: collect`` a
    join of all keeps failures as results. ``timeout_s`` is the join's deadline.

    ``map`` names a list in the context; ``do`` is done for each of its items, found in the field ``item``, ``limit`` at
    a time. What each item's last steps write becomes a list, in the items' order; with ``save_as`` every item's outcome
    is kept as one list. A step in it that takes whatever there is, such as a template, gets the item but not the list,
    unless its ``inputs`` name that: else every item would be sent every other.

    ``branch`` takes the first case whose condition holds, else ``otherwise``. ``loop`` repeats its steps until
    ``until`` holds, ``at_most`` times. Conditions are CEL expressions over the context: ``score > 0.5 &&
    size(answer) > 0``.

    ``sleep_s`` waits that long. ``wait`` waits for a signal of that name, whose payload is its output; when none comes
    within ``timeout_s`` it writes ``default``, or fails where there is no default.
    """

    native: str | None = None
    module: str | None = None
    call: str | None = None
    pipeline: str | None = None
    parallel: tuple[StepDefinition, ...] | None = None
    sequence: tuple[StepDefinition, ...] | None = None
    map: str | None = None
    branch: tuple[CaseDefinition, ...] | None = None
    loop: tuple[StepDefinition, ...] | None = None
    sleep_s: Seconds | None = None
    wait: str | None = None

    name: str | None = None
    with_: dict[str, Any] = field(name="with", default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    save_as: str | None = None
    pool: str | None = None
    implementation: Implementation = "auto"
    timeout_s: Seconds | None = None
    retry: RetryPolicy | None = None
    cache_s: Seconds | None = None
    stream: bool = False
    remember: bool = False
    affinity: Affinity | None = None
    limits: tuple[LimitName, ...] = ()
    fuse: bool = True
    version: str | None = None
    on_error: Literal["fail", "collect"] = "fail"
    join: JoinKind = "all"
    quorum: Annotated[int, Meta(ge=1)] | None = None
    do: tuple[StepDefinition, ...] | None = None
    item: str = "item"
    limit: Annotated[int, Meta(ge=1, le=4096)] = 16
    otherwise: tuple[StepDefinition, ...] | None = None
    until: str | None = None
    at_most: Annotated[int, Meta(ge=1, le=10_000)] = 100
    default: dict[str, Any] | None = None


class PipelineDefinition(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``output`` names the context fields a run answers with; without it, the last step's outputs. ``budget`` is what
    each run may use, and ``priority`` which of a pool's queues its steps wait in, unless the run says otherwise. With
    ``fuse: false`` each step travels by itself."""

    name: Annotated[str, Meta(pattern=TOKEN)]
    steps: Annotated[tuple[StepDefinition, ...], Meta(min_length=1)]
    description: str = ""
    output: tuple[str, ...] | None = None
    timeout_s: Seconds | None = None
    retry: RetryPolicy | None = None
    budget: Budget | None = None
    priority: Priority = "normal"
    fuse: bool = True
