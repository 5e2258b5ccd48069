"""The one place where a subject string is built or split.

``dspex.v1.<family>.<…>.<ids>``: fixed words first, ids last. Every id is checked for dots, wildcards
and blanks, because one unchecked id widens a subscription.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache
from typing import NamedTuple

from .errors import InvalidName
from .names import dotted, token

ROOT = "dspex.v1"
DEFAULT_LANE = "normal"
LANES = ("high", DEFAULT_LANE, "low")
"""The priorities of runs, the most urgent first: each is a lane of every pool."""

INLINE = "inline"
"""The reserved pipeline name under which a run brings its own definition."""

ROUTER_POOL = "router"
"""The reserved pool of outcomes that routers themselves record: of sleeps, waits, joins and pipelines."""

JOURNAL = f"{ROOT}.journal"
EVENT = f"{ROOT}.event"
TASK = f"{ROOT}.task"
DEAD = f"{ROOT}.dead"

_IDS = [re.compile(rf"[A-Za-z0-9_-]{{1,255}}(\.[A-Za-z0-9_-]{{1,255}}){{{more}}}") for more in range(5)]
_OBJECT = re.compile(r"([A-Za-z0-9_-]{0,64})\.[a-z]+\.[0-9a-f]{24}")


@lru_cache(4096)
def _ids(*ids: str) -> str:
    """The ids, joined: each one token, though longer than a name, since nodes are named by their place in a tree. The
    same ones come again and again, so what was looked at is kept."""
    joined = ".".join(ids)
    if _IDS[len(ids) - 1].fullmatch(joined):
        return joined
    raise InvalidName(f"{joined!r} cannot be part of a subject", details={"value": joined})


def partition_of(session: str, partitions: int) -> int:
    """CRC-32 of the session id modulo the partition count: any language can compute it."""
    return zlib.crc32(session.encode()) % partitions


# --- the journal: what is stored about a session -------------------------------------------------


def accepted(partition: int, session: str) -> str:
    return f"{JOURNAL}.{partition}.{_ids(session)}.accepted"


def outcome(partition: int, session: str, pool: str, node: str, attempt: int) -> str:
    """The slot that holds the one outcome of an attempt, whoever writes it."""
    return f"{JOURNAL}.{partition}.{_ids(session)}.step.{_ids(pool, node)}.{attempt}"


def cancel_request(partition: int, session: str) -> str:
    return f"{JOURNAL}.{partition}.{_ids(session)}.cancel"


def control(partition: int, session: str, number: int) -> str:
    """The slot of a session's pause or resumption, numbered from 0."""
    return f"{JOURNAL}.{partition}.{_ids(session)}.control.{number}"


def signal(partition: int, session: str, name: str, id: str) -> str:
    """The slot of a signal; ``id`` is the sender's own."""
    return f"{JOURNAL}.{partition}.{_ids(session)}.signal.{_ids(name, id)}"


def end(partition: int, session: str) -> str:
    return f"{JOURNAL}.{partition}.{_ids(session)}.end"


def snapshot(partition: int, session: str) -> str:
    """What sums a session's journal up: each by compare-and-swap on the one before it."""
    return f"{JOURNAL}.{partition}.{_ids(session)}.snapshot"


def session_outcomes(partition: int, session: str) -> str:
    """The outcomes of a session's attempts, which its snapshots sum up."""
    return f"{JOURNAL}.{partition}.{_ids(session)}.step.>"


def session_journal(partition: int, session: str) -> str:
    """Everything stored about one session."""
    return f"{JOURNAL}.{partition}.{_ids(session)}.>"


def partition_journal(partition: int) -> str:
    """Everything stored about a partition's sessions."""
    return f"{JOURNAL}.{partition}.>"


def session_end(partition: int, session: str) -> str:
    """Where a session's end is said, live."""
    return f"{EVENT}.{partition}.{_ids(session)}.end"


def session_journal_end(partition: int) -> str:
    """The ends of a partition's sessions."""
    return f"{JOURNAL}.{partition}.*.end"


def session_events(session: str, partition: int | str = "*") -> str:
    """What a client subscribes to for one session's events, live."""
    return f"{EVENT}.{partition}.{_ids(session)}.>"


class JournalSubject(NamedTuple):
    """``kind`` is ``accepted``, ``step``, ``control``, ``signal``, ``cancel``, ``snapshot`` or ``end``; the last three
    fields are for ``step``."""

    partition: int
    session: str
    kind: str
    pool: str = ""
    node: str = ""
    attempt: int = 0


def split_journal(subject: str) -> JournalSubject:
    """Split a journal subject, or the event subject that mirrors it."""
    parts = subject.split(".")
    if len(parts) == 9:
        return JournalSubject(int(parts[3]), parts[4], parts[5], parts[6], parts[7], int(parts[8]))
    return JournalSubject(int(parts[3]), parts[4], parts[5])


def journal_kind(subject: str) -> str:
    """What a journal subject is for, '' where that is not to be told."""
    parts = subject.split(".", 6)
    return parts[5] if len(parts) > 5 else ""


# --- tasks ---------------------------------------------------------------------------------------


def task(pool: str, lane: str, session: str, node: str, attempt: int) -> str:
    return f"{TASK}.{_ids(pool, lane)}.{_ids(session)}.{_ids(node)}.{attempt}"


def lane_tasks(pool: str, lane: str = DEFAULT_LANE) -> str:
    """The filter of the pool's shared consumer for one lane."""
    return f"{TASK}.{_ids(pool, lane)}.>"


def durable(pool: str, lane: str = DEFAULT_LANE) -> str:
    """The name of the pool's shared consumer for one lane."""
    return _ids(f"{pool}_{lane}")


def session_tasks(session: str) -> str:
    return f"{TASK}.*.*.{_ids(session)}.>"


class TaskSubject(NamedTuple):
    pool: str
    lane: str
    session: str
    node: str
    attempt: int


def split_task(subject: str) -> TaskSubject:
    parts = subject.split(".")
    return TaskSubject(parts[3], parts[4], parts[5], parts[6], int(parts[7]))


def now(pool: str, operation: str) -> str:
    """Core request/reply to a pool, outside every stream; ``operation`` may have dots."""
    return f"{ROOT}.now.{_ids(pool)}.{dotted(operation, 'operation')}"


def home(pool: str, worker: str) -> str:
    """Where one worker is asked to run what belongs to it."""
    return f"{ROOT}.home.{_ids(pool, worker)}"


# --- objects: the bodies that are too large for a message -------------------------------------------


def object_owner(subject: str) -> str:
    """The session that the body of a message on ``subject`` belongs to; '' where it is said, not stored."""
    return _object_parts(subject)[0]


def object_name(subject: str, nonce: str) -> str:
    """A name for that body: ``<session>.<what>.<nonce>``, or ``.said.<nonce>``, which no session's can be."""
    return ".".join((*_object_parts(subject), nonce))


def split_object(name: str) -> str | None:
    """The session whose message has its body there, '' for what was said; None where it is no message's: other objects
    may be kept in the same bucket."""
    found = _OBJECT.fullmatch(name)
    return None if found is None else found[1]


def _object_parts(subject: str) -> tuple[str, str]:
    parts = subject.split(".")
    if subject.startswith((f"{JOURNAL}.", f"{EVENT}.")) and len(parts) > 5:
        return parts[4], parts[5]
    if subject.startswith(f"{TASK}.") and len(parts) > 5:
        return parts[5], "task"
    return "", "said"


# --- what is said and not stored -------------------------------------------------------------------


def presence(pool: str, worker: str) -> str:
    return f"{ROOT}.presence.{_ids(pool, worker)}"


def pool_presence(pool: str) -> str:
    """Of every worker of a pool."""
    return f"{ROOT}.presence.{_ids(pool)}.*"


PRESENCE = f"{ROOT}.presence.>"
ROLL_CALL = f"{ROOT}.rollcall"
"""Published by whoever wants every worker to announce itself at once."""


def probe(worker: str) -> str:
    """A worker answers on it; nobody does once the server knows that it is gone."""
    return f"{ROOT}.probe.{_ids(worker)}"


def supervisor(id: str) -> str:
    """A supervisor's presence."""
    return f"{ROOT}.supervisor.{_ids(id)}"


SUPERVISORS = f"{ROOT}.supervisor.*"


def router(id: str) -> str:
    """A router's presence."""
    return f"{ROOT}.router.{_ids(id)}"


ROUTERS = f"{ROOT}.router.*"
PIPELINES_CHANGED = f"{ROOT}.definitions"
"""Said among routers: what a pipeline's name stands for has changed."""

SCHEDULES_CHANGED = f"{ROOT}.schedules"
"""Said among routers: a schedule has come, changed or gone."""

LIMITS_CHANGED = f"{ROOT}.limits"
"""Said among routers: a limit has come, changed or gone."""

PERMITS = f"{ROOT}.permits.>"
"""Said among routers: a permit of the limit named last was given back."""


def rates(key: str) -> str:
    """Said among workers: somebody lacks a slot of the limit of models that is kept under ``key``, or has given one
    back."""
    return f"{ROOT}.rates.{_ids(key)}"


def cancelled(session: str) -> str:
    """Tells workers at once that a session's attempts are abandoned."""
    return f"{ROOT}.cancelled.{_ids(session)}"


CANCELLED = f"{ROOT}.cancelled.*"


def progress(session: str, node: str, attempt: int) -> str:
    return f"{ROOT}.progress.{_ids(session, node)}.{attempt}"


def served(id: str) -> str:
    """Where a client answers for a function of its own while its job lives."""
    return f"{ROOT}.served.{_ids(id)}"


def session_progress(session: str) -> str:
    return f"{ROOT}.progress.{_ids(session)}.>"


def token_stream(session: str, node: str, attempt: int) -> str:
    """Where an attempt says its model's tokens."""
    return f"{ROOT}.token.{_ids(session, node)}.{attempt}"


def session_tokens(session: str) -> str:
    return f"{ROOT}.token.{_ids(session)}.>"


def split_token_stream(subject: str) -> tuple[str, str, int]:
    """Session, node and attempt."""
    parts = subject.split(".")
    return parts[3], parts[4], int(parts[5])


def thread_key(thread: str, tenant: str, session: str) -> str:
    """The key of a conversation: a named one's, apart for each tenant, or where ``thread`` is '' the session's own."""
    if not thread:
        return f"session.{_ids(session)}"
    return f"tenant.{_ids(tenant, thread)}" if tenant else f"thread.{_ids(thread)}"


def dead(pool: str, session: str, node: str, attempt: int) -> str:
    return f"{DEAD}.{_ids(pool, session, node)}.{attempt}"


def dead_unnamed(task_subject: str) -> str:
    """For what came on a pool's lane under no task's subject."""
    return dead(task_subject.split(".")[3], "unknown", "unknown", zlib.crc32(task_subject.encode()))


def dead_letters(pool: str | None) -> str:
    """Every dead letter, or a pool's."""
    return f"{DEAD}.>" if pool is None else f"{DEAD}.{_ids(pool)}.>"


def split_dead(subject: str) -> tuple[str, str, str, int]:
    """Pool, session, node and attempt."""
    parts = subject.split(".")
    return parts[3], parts[4], parts[5], int(parts[6])


# --- what clients ask ------------------------------------------------------------------------------


def run(pipeline: str) -> str:
    return f"{ROOT}.run.{token(pipeline, 'pipeline')}"


def submit(pipeline: str) -> str:
    return f"{ROOT}.submit.{token(pipeline, 'pipeline')}"


def call(operation: str) -> str:
    return f"{ROOT}.call.{dotted(operation, 'operation')}"


def pipeline(verb: str) -> str:
    return f"{ROOT}.pipeline.{verb}"


def session(verb: str) -> str:
    return f"{ROOT}.session.{verb}"


def pools(verb: str) -> str:
    return f"{ROOT}.pools.{verb}"


def schedule(verb: str) -> str:
    return f"{ROOT}.schedule.{verb}"


def limit(verb: str) -> str:
    return f"{ROOT}.limit.{verb}"


def letters(verb: str) -> str:
    """Requests about dead letters; what is said below ``dead`` itself is stored as one."""
    return f"{ROOT}.letters.{verb}"


# --- the cache -----------------------------------------------------------------------------------

CACHE_REPORT = f"{ROOT}.cache.report"
CACHE_CLEAR = f"{ROOT}.cache.clear"


def cache_told(key: str) -> str:
    """Where the maker of an entry says that it is there, or will not come; ``key`` is ``<kind>.<digest>``."""
    return f"{ROOT}.cache.told.{key}"
