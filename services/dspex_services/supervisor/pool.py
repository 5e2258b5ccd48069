"""A pool's workers on this machine: kept at the number wanted, replaced when they are due."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import anyio
from anyio.abc import TaskGroup, TaskStatus

from dspex_bus import Bus, Message, subjects
from dspex_bus.errors import DecodeError, DspexError
from dspex_bus.streams import TASKS
from dspex_bus.wire import WorkerClaims, WorkerPresence, decode

from ..errors import SetupError
from ..worker.__main__ import CANNOT
from ..worker.spec import PoolSpec
from .guard import Guard
from .member import Member
from .moves import Seen, delay_after, how_it_ended, moves, overdue, replacements_at_once
from .neighbours import Neighbours
from .orphans import Orphans
from .scaling import Load, Scaling

logger = logging.getLogger("dspex.supervisor")

_LOOK_S = 0.5
_FRESH_S = 3.5
_AWAY_S = 2.0
_OWN_KEPT = 1000


class Pool:
    """``run`` reports readiness when ``spec.size`` workers are ready. It runs until cancelled, and then until every
    worker has drained. Raises SetupError when no worker can be set up: while others still serve, they go on."""

    def __init__(self, server: str, spec: PoolSpec, bus: Bus, guard: Guard, neighbours: Neighbours) -> None:
        self.spec = spec
        self.restarts = 0
        self.recycled = 0
        self._server = server
        self._bus = bus
        self._guard = guard
        self._neighbours = neighbours
        self._orphans = Orphans(bus, spec.pool, self._claimed, self._others, neighbours.workers)
        self._members: list[Member] = []
        self._own: dict[str, None] = {}
        self._elsewhere: dict[str, tuple[float, WorkerPresence]] = {}
        self._scaling = Scaling(spec)
        self._delay_s = 0.0
        self._start_at = 0.0
        self._calls_since = 0.0
        self._broken = ""
        self._looked_at = time.monotonic()
        self._changed = anyio.Event()

    @property
    def size(self) -> int:
        """Workers that serve."""
        return sum(member.ready for member in self._members)

    def claims(self) -> Iterator[WorkerClaims]:
        """What each of its workers holds for longer than a moment."""
        return (claims for member in self._members if (claims := member.claims()))

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        subscription = await self._bus.subscribe(subjects.pool_presence(self.spec.pool), self._on_presence)
        try:
            async with anyio.create_task_group() as group:
                try:
                    if not self._scaling.fixed:
                        group.start_soon(self._scale)
                    group.start_soon(self._orphans.run)
                    await self._keep(group, task_status)
                finally:
                    for member in self._members:
                        member.stop()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await subscription.close()

    async def _keep(self, group: TaskGroup, task_status: TaskStatus[None]) -> None:
        told = False
        while True:
            changed = self._changed
            self._see_who_ended()
            self._see_who_hangs()
            if not told and self.size >= self.spec.size:
                told = True
                task_status.started()
            if self._broken and not (told and self._members):
                raise SetupError(self._broken)
            self._mark_due()
            self._move(group)
            with anyio.move_on_after(max(0.0, self._start_at - time.monotonic()) or _LOOK_S):
                await changed.wait()

    def search(self) -> None:
        """For deliveries that were on their way to workers that are gone."""
        self._orphans.look_soon()

    def _claimed(self) -> list[str]:
        ours = [receipt for member in self._members for receipt in member.held()]
        return ours + self._neighbours.held(self.spec.pool)

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # --- who is there ---

    def _see_who_ended(self) -> None:
        for member in [member for member in self._members if member.over]:
            self._members.remove(member)
            if member.code == CANNOT:
                self._cannot(member)
            elif not member.leaving:
                self._died(member)

    def _cannot(self, member: Member) -> None:
        reason = member.output.reason or "it said why above"
        self._broken = f"a worker of the pool {self.spec.pool} cannot be set up: {reason}"
        if self._members:
            logger.error("%s; those that run go on, and no other is started", self._broken)

    def _died(self, member: Member) -> None:
        self.restarts += 1
        self.search()
        self._delay_s = delay_after(member.age_s, self._delay_s)
        self._start_at = time.monotonic() + self._delay_s
        logger.warning(
            "the worker %s of the pool %s %s after %.1f s; another starts in %.1f s",
            member.name,
            self.spec.pool,
            how_it_ended(member.code),
            member.age_s,
            self._delay_s,
        )

    def _see_who_hangs(self) -> None:
        """Whoever was away himself, or is cut off, has heard nobody, and starts anew."""
        now = time.monotonic()
        away = now - self._looked_at > _AWAY_S or not self._bus.connected
        self._looked_at = now
        for member in self._members:
            if away:
                member.heard_at = now
            elif member.ready and now - member.heard_at > max(self.spec.silent_s, 2 * self.spec.ack_wait_s):
                silent_s = now - member.heard_at
                logger.error("%s has said nothing for %.0f s; it is killed", member.name, silent_s)
                member.heard_at = now
                member.kill()

    def _mark_due(self) -> None:
        there = [member for member in self._members if not member.leaving]
        free = replacements_at_once(self._scaling.wanted) - sum(bool(member.due) for member in there)
        for member in there:
            if free <= 0 or self._broken:
                return
            if member.ready and not member.due and member.said is not None:
                done, memory = member.said.done, member.said.memory_bytes
                member.due = overdue(self.spec, done=done, age_s=member.age_s, memory_bytes=memory)
                free -= bool(member.due)

    def _move(self, group: TaskGroup) -> None:
        there = {member.number: member for member in self._members if not member.leaving}
        seen = [
            Seen(number, member.ready, bool(member.due), member.said.busy if member.said else 0)
            for number, member in there.items()
        ]
        todo = moves(seen, self._scaling.wanted)
        for number in todo.retire:
            self._retire(there[number])
        if not self._broken and time.monotonic() >= self._start_at:
            for _ in range(todo.start):
                self._start(group)

    def _start(self, group: TaskGroup) -> None:
        member = Member(self._server, self.spec, self._bus, self._guard)
        self._members.append(member)
        group.start_soon(member.run, self._change)

    def _retire(self, member: Member) -> None:
        self.recycled += bool(member.due)
        reason = f"{member.due}, and its replacement is ready" if member.due else "there is no need of it any more"
        logger.info("the worker %s of the pool %s leaves: %s", member.name, self.spec.pool, reason)
        member.retire()

    # --- how many are wanted ---

    async def _on_presence(self, message: Message) -> None:
        try:
            said = decode(WorkerPresence, message.data, subject=message.subject)
        except DecodeError as error:
            logger.warning("an announcement was ignored: %s", error)
            return
        ours = next((member for member in self._members if member.said_by(said)), None)
        if ours is not None:
            self._own[said.worker] = None
            while len(self._own) > _OWN_KEPT:
                del self._own[next(iter(self._own))]
            ours.hear(said)
            self._change()
        elif said.worker in self._own:  # the last words of one that is dead
            return
        elif said.state == "leaving":
            self._elsewhere.pop(said.worker, None)
        else:
            self._elsewhere[said.worker] = (time.monotonic(), said)

    async def _scale(self) -> None:
        while True:
            await anyio.sleep(_LOOK_S)
            try:
                load = await self._load()
            except DspexError as error:
                logger.debug("the load of the pool %s is not known: %s", self.spec.pool, error)
                continue
            before = self._scaling.wanted
            self._scaling.look(load, time.monotonic())
            if self._scaling.wanted != before:
                logger.info("the pool %s wants %d workers: %s", self.spec.pool, self._scaling.wanted, load)
                self._change()

    def _others(self) -> set[str]:
        return {name for name, _ in self._fresh()}

    def _fresh(self) -> list[tuple[str, WorkerPresence]]:
        """The pool's workers that are not ours."""
        oldest = time.monotonic() - _FRESH_S
        self._elsewhere = {name: seen for name, seen in self._elsewhere.items() if seen[0] > oldest}
        return [(name, said) for name, (_, said) in self._elsewhere.items()]

    async def _load(self) -> Load:
        queued, waited_ms = 0, 0
        for lane in subjects.LANES:
            counts = await self._bus.consumer_info(TASKS, subjects.durable(self.spec.pool, lane))
            queued += counts["pending"]
            waited_ms = max(waited_ms, counts["oldest_wait_ms"])
        others = [said for _, said in self._fresh()]
        ours = [member.said for member in self._members if member.said is not None]
        # How long calls have waited nobody says: as long as there have been any at every look.
        now, calls = time.monotonic(), sum(said.waiting for said in (*ours, *others))
        self._calls_since = (self._calls_since or now) if calls else 0.0
        if calls:
            waited_ms = max(waited_ms, int(1000 * (now - self._calls_since)))
        return Load(
            queued=queued + calls,
            oldest_wait_s=waited_ms / 1000,
            busy=sum(said.busy for said in (*ours, *others)),
            elsewhere=sum(said.slots for said in others if said.state == "ready"),
            starting=any(not member.name for member in self._members),
        )
