"""The router: what it is made of, and its life from the first stream to the last answer."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import anyio
from anyio.abc import TaskStatus

from dspex_bus import Bus
from dspex_bus.clock import keep_time
from dspex_bus.streams import DEFAULT_PARTITIONS, EVENTS, PARTITIONS_KEY, buckets, streams

from .admission import Admission
from .calling import Calling
from .compiling import Compiling
from .config import RouterConfig
from .dead import DeadLetters
from .definitions import Definitions
from .endpoints import Endpoints, Parts, add_all
from .errands import Errands
from .forking import Forking
from .journals import Journals
from .leftovers import Leftovers
from .limits import Limits
from .listing import Listing
from .membership import Membership
from .owner import Owner
from .ownership import Ownership
from .parked import Parked
from .parking import Parking
from .pipelines import Pipelines
from .pools import Pools
from .presence import Presence
from .recovery import Recovery
from .release import RELEASE
from .retention import Retention
from .running import Running
from .schedules import Schedules
from .scheduling import Scheduler
from .sessions import Sessions
from .submitting import Submitting
from .young import Young

log = logging.getLogger(__name__)

_TIME_S = 2.0
"""How often the server is asked what time it is."""


class Router:
    """Keeps sessions going and answers clients.

        await group.start(Router(bus).run)

    ``run`` reports readiness when every live session has been taken up and requests are answered; it runs until
    cancelled."""

    def __init__(self, bus: Bus, config: RouterConfig | None = None) -> None:
        self._bus = bus
        self._config = config or RouterConfig()

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        config, bus = self._config, self._bus
        await bus.prepare(
            streams(partitions=config.partitions, tasks=config.tasks, replicas=config.replicas),
            buckets(largest=config.largest_bytes, replicas=config.replicas),
        )
        journals = Journals(bus, await self._partitions())
        errands, presence = Errands(), Presence(bus)
        admission = Admission(bus, config, presence)
        limits = Limits(bus)
        membership = Membership(bus)
        young = Young(bus, membership.all_find_starts)
        owner = Owner(bus, config, errands, journals, limits, membership.sure, young)
        recovery = Recovery(bus, config, owner, journals)
        parked = Parked(bus)
        parking = Parking(bus, config, owner, recovery, journals, parked, young)
        ownership = Ownership(bus, owner, recovery, parking, membership, journals.partitions)
        definitions = Definitions(bus)
        async with (
            presence.following(),
            membership.following(),
            definitions.following(),
            limits.following(),
            owner.gate.following(),
            anyio.create_task_group() as group,
        ):
            for keep in (
                errands.run,
                partial(keep_time, bus, EVENTS, _TIME_S),
                presence.expire,
                membership.keep,
                owner.timers.run,
                admission.watch,
                limits.keep,
                owner.gate.run,
                owner.compaction.run,
            ):
                group.start_soon(keep)
            async with ownership.held(), asyncio.TaskGroup() as answering:
                group.start_soon(ownership.follow)
                group.start_soon(recovery.sweep)
                group.start_soon(parking.run)
                leftovers = Leftovers(bus, config, owner, journals)
                group.start_soon(Retention(bus, config, owner, leftovers).keep)
                group.start_soon(leftovers.sweep)
                bus.on_reconnect(recovery.resend)
                endpoints = Endpoints(bus, config, answering, RELEASE)
                pipelines = Pipelines(bus, definitions)
                compiling = Compiling(config, presence)
                submitting = Submitting(
                    bus,
                    config,
                    journals,
                    compiling,
                    pipelines,
                    young,
                    lambda plan: admission.check(plan, len(owner.sessions)),
                )
                sessions = Sessions(bus, owner, journals)
                forking = Forking(journals, submitting, owner.controls)
                schedules = Schedules(bus, submitting)
                scheduler = Scheduler(bus, owner, journals, submitting, schedules)
                parts = Parts(
                    runs=Running(bus, submitting, sessions),
                    calls=Calling(bus, config, presence),
                    sessions=sessions,
                    listing=Listing(bus, owner, journals, parked),
                    forks=forking,
                    letters=DeadLetters(bus, forking),
                    pipelines=pipelines,
                    pools=Pools(bus, presence),
                    schedules=schedules,
                    limits=limits,
                )
                add_all(endpoints, parts)
                serving = await bus.serve(endpoints.spec())
                try:
                    async with scheduler.following():
                        group.start_soon(scheduler.run)
                        task_status.started()
                        await anyio.sleep_forever()
                finally:
                    with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                        await serving.close()

    async def _partitions(self) -> int:
        """What the journal was made with counts, whatever this router was told."""
        info = await self._bus.stream_info(EVENTS)
        return int(info["metadata"].get(PARTITIONS_KEY, DEFAULT_PARTITIONS))
