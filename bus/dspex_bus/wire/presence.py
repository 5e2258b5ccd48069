"""Who is there: workers announce themselves every second, and at once when called."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field


class HandlerInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker can run.

    ``reads``: ``fields`` is the names in ``required`` and ``optional``; ``signature`` the input fields of the signature
    in the step's ``signature`` option; ``any`` the whole context. ``outputs`` is None where it is not known ahead; for
    ``signature`` it is what comes besides the signature's output fields. ``schema`` is the JSON Schema of its input.
    ``pure``: it is cheap and has no side effects, so it may travel with its neighbours. ``carries``: pure ones that
    follow it may travel with it, at the price of running it again should they kill its worker. ``resumes``: it goes
    on from where a lost worker left it, and so is for stored runs alone.
    """

    name: str
    implementation: Literal["native", "dspy"] = "native"
    reads: Literal["fields", "signature", "any"] = "fields"
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    outputs: tuple[str, ...] | None = None
    summary: str = ""
    pure: bool = False
    carries: bool = False
    resumes: bool = False
    schema: dict[str, Any] = field(default_factory=dict)


class WorkerPresence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``state`` is ``leaving`` in a worker's last announcement. ``waiting`` counts direct calls for which it has no
    slot yet. ``memory_bytes`` is resident memory. ``redelivered`` counts the tasks it got that had been delivered
    before, ``late`` its outcomes that came after another was recorded.
    """

    worker: str
    pool: str
    host: str = ""
    pid: int = 0
    started_ms: int = 0
    slots: int = 1
    busy: int = 0
    waiting: int = 0
    done: int = 0
    redelivered: int = 0
    late: int = 0
    memory_bytes: int = 0
    model: str = ""
    state: Literal["ready", "draining", "leaving"] = "ready"
    handlers: tuple[HandlerInfo, ...] = ()


class WorkerClaims(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker holds: the receipts of its deliveries."""

    worker: str
    pool: str
    receipts: tuple[str, ...] = ()


class SupervisorPresence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What other supervisors need to know in order to give its workers' tasks back when its machine is gone. ``state``
    is ``leaving`` in a supervisor's last announcement. ``claims`` are those of its workers that have lasted a while;
    ``workers`` are those of which it tells them all."""

    supervisor: str
    host: str = ""
    pid: int = 0
    state: Literal["ready", "leaving"] = "ready"
    pools: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    claims: tuple[WorkerClaims, ...] = ()


class PoolStatus(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``queued`` counts stored tasks not yet delivered, of which the oldest has waited for ``oldest_wait_ms``;
    ``running`` those delivered and not yet acknowledged; ``redelivered`` those of them delivered more than once."""

    pool: str
    workers: tuple[WorkerPresence, ...] = ()
    slots: int = 0
    busy: int = 0
    queued: int = 0
    oldest_wait_ms: int = 0
    running: int = 0
    redelivered: int = 0


class RouterPresence(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``partitions`` are those it owns. ``state`` is ``leaving`` in a router's last announcement. ``format`` is the
    newest of journals that it reads: only routers of the newest one own partitions. ``own_ms`` is when it said so, by a
    clock that means nothing to others. ``finds_starts``: it takes up sessions that began a moment ago, though they are
    in no index yet."""

    router: str
    host: str = ""
    pid: int = 0
    started_ms: int = 0
    state: Literal["ready", "leaving"] = "ready"
    partitions: tuple[int, ...] = ()
    format: int = 1
    own_ms: int = 0
    finds_starts: bool = False
