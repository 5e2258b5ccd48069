"""The streams and buckets dspex keeps, as data. ``Bus.prepare`` makes or migrates them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .errors import InvalidRequest
from .subjects import DEAD, EVENT, JOURNAL, TASK

EVENTS = "DSPEX_EVENTS"
TASKS = "DSPEX_TASKS"
DEAD_LETTERS = "DSPEX_DEAD"

LIVE = "dspex_live"
PARKED = "dspex_parked"
CHECKPOINTS = "dspex_checkpoints"
PIPELINES = "dspex_pipelines"
CACHE = "dspex_cache"
OBJECTS = "dspex_objects"
PROGRAMS = "dspex_programs"
TEMPLATES = "dspex_templates"
SCHEDULES = "dspex_schedules"
LIMITS = "dspex_limits"
JOBS = "dspex_jobs"
THREADS = "dspex_threads"
TENANTS = "dspex_tenants"
RATES = "dspex_rates"

DEFAULT_PARTITIONS = 16
CACHE_BYTES = 256 * 1024 * 1024
LARGEST_BYTES = 64 * 1024 * 1024
PARTITIONS_KEY = "dspex-partitions"
LARGEST_KEY = "dspex-largest"

Storage = Literal["file", "memory"]


@dataclass(frozen=True, kw_only=True)
class StreamSpec:
    """``republish`` is (source, destination): the server says on the destination what it stored.

    A full stream refuses what comes next, rather than forget what it has. One with ``schedules``, for
    :meth:`Bus.schedule`, must have no limits instead: the server allows them nowhere else.
    """

    name: str
    subjects: tuple[str, ...]
    storage: Storage = "file"
    work_queue: bool = False
    republish: tuple[str, str] | None = None
    schedules: bool = False
    replicas: int = 1
    metadata: dict[str, str] = field(default_factory=dict)


def merged_metadata(there: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """A stream's metadata after a migration. Sessions are placed by the partition count: what is stored stands."""
    kept = {PARTITIONS_KEY: there[PARTITIONS_KEY]} if PARTITIONS_KEY in there else {}
    return {**there, **wanted, **kept}


@dataclass(frozen=True, kw_only=True)
class BucketSpec:
    """One with ``most_bytes`` forgets its oldest keys when it is full: a cache. One with ``largest`` is for objects, of
    so many bytes at most; the bucket itself says so, so that whoever writes to it need not be told."""

    name: str
    storage: Storage = "file"
    ttl: bool = False
    most_bytes: int | None = None
    largest: int | None = None
    replicas: int = 1


def lifetime_s(ttl_s: float) -> int:
    """How long a key lives: whole seconds, which is all that the server knows."""
    if ttl_s < 1:
        raise InvalidRequest("a key lives at least one second")
    return math.ceil(ttl_s)


def streams(*, partitions: int = DEFAULT_PARTITIONS, tasks: Storage = "memory", replicas: int = 1) -> list[StreamSpec]:
    """Tasks can be derived from the journal, so they may live in memory: one disk write a step."""
    return [
        StreamSpec(
            name=EVENTS,
            subjects=(f"{JOURNAL}.>",),
            republish=(f"{JOURNAL}.>", f"{EVENT}.>"),
            replicas=replicas,
            metadata={PARTITIONS_KEY: str(partitions)},
        ),
        StreamSpec(name=TASKS, subjects=(f"{TASK}.>",), storage=tasks, work_queue=True, replicas=replicas),
        StreamSpec(name=DEAD_LETTERS, subjects=(f"{DEAD}.>",), replicas=replicas),
    ]


def buckets(*, largest: int = LARGEST_BYTES, replicas: int = 1) -> list[BucketSpec]:
    return [
        BucketSpec(name=LIVE, replicas=replicas),
        BucketSpec(name=PARKED, replicas=replicas),
        BucketSpec(name=CHECKPOINTS, replicas=replicas),
        BucketSpec(name=PIPELINES, replicas=replicas),
        BucketSpec(name=PROGRAMS, replicas=replicas),
        BucketSpec(name=TEMPLATES, replicas=replicas),
        BucketSpec(name=SCHEDULES, replicas=replicas),
        BucketSpec(name=LIMITS, replicas=replicas),
        BucketSpec(name=JOBS, ttl=True, replicas=replicas),
        BucketSpec(name=THREADS, ttl=True, replicas=replicas),
        BucketSpec(name=TENANTS, replicas=replicas),
        BucketSpec(name=RATES, storage="memory", ttl=True, replicas=replicas),
        BucketSpec(name=CACHE, ttl=True, most_bytes=CACHE_BYTES, replicas=replicas),
        BucketSpec(name=OBJECTS, largest=largest, replicas=replicas),
    ]
