"""What can be set on a router."""

from __future__ import annotations

from dataclasses import dataclass

from dspex_bus.streams import DEFAULT_PARTITIONS, LARGEST_BYTES, Storage


@dataclass(frozen=True, kw_only=True)
class RouterConfig:
    """``partitions`` counts only on a server that has no journal yet; after that the journal says.

    ``run_timeout_s`` bounds a run that sets no time itself. ``workers_grace_s`` is how long a request waits for a pool
    that has no worker yet. ``requests`` may be in the router's hands at once; more are answered ``overloaded``, and so
    are runs while ``pool_queue`` steps wait for one of their pools, the tasks that wait have ``task_bytes``, or this
    router has ``sessions`` live.
    ``park_after_s``: a session that only waits leaves this router's memory after so long; 0 for never.
    ``sweep_s``: how often the live index is searched for sessions nobody has in memory. ``store_tries``: how
    often a refused write is tried, with growing pauses, before the session is set aside. ``retention_s``: how long a
    journal is kept after its session's end; looked at every ``purge_s``. ``largest_bytes``: more than that no message's
    body may have. ``stray_s``: objects that belong to no session are kept that long.
    ``compact_events``: after so many, 256 at least, a session's journal is summed up in a snapshot; outcomes before one
    that is ``compact_grace_s`` old are purged once there is another.
    """

    tasks: Storage = "memory"
    replicas: int = 1
    partitions: int = DEFAULT_PARTITIONS
    run_timeout_s: float = 3600.0
    call_timeout_s: float = 60.0
    workers_grace_s: float = 5.0
    requests: int = 4096
    pool_queue: int = 10_000
    task_bytes: int = 512 * 1024 * 1024
    sessions: int = 200_000
    sweep_s: float = 30.0
    park_after_s: float = 60.0
    store_tries: int = 8
    retention_s: float = 7 * 86_400.0
    purge_s: float = 60.0
    largest_bytes: int = LARGEST_BYTES
    stray_s: float = 86_400.0
    compact_events: int = 10_000
    compact_grace_s: float = 60.0
