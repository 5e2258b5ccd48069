"""Supervisors of other machines: what their workers hold is given back when nothing is heard of them any more.

A worker that ends is seen by its own supervisor. When a machine hangs, or is cut off, its supervisor falls silent too:
it has told what its workers held, and of those that have the pool the one with the lowest id gives it back. A worker
that is merely busy, its supervisor being there, is left alone.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio
from anyio.abc import TaskStatus

from dspex_bus import Bus, Message, subjects
from dspex_bus.errors import DecodeError, DspexError
from dspex_bus.wire import SupervisorPresence, WorkerClaims, decode, encode

logger = logging.getLogger("dspex.supervisor")

HEARTBEAT_S = 0.5
SILENT_S = 2.7
"""Five heartbeats are missing. By then, the requests for tasks of whoever hangs have expired: what is given back is not
sent to him again."""
_LOOK_S = 0.2
_AWAY_S = 1.0
_MOST_CLAIMS = 4_000
_GIVEN_KEPT = 20_000


@dataclass(slots=True)
class _Heard:
    at: float
    said: SupervisorPresence


class Neighbours:
    """``claims`` tells what each of our own workers holds; ``on_silent`` is called when others' claims were given
    back."""

    def __init__(
        self,
        bus: Bus,
        id: str,
        pools: Sequence[str],
        claims: Callable[[], Iterable[WorkerClaims]],
        on_silent: Callable[[], None] = lambda: None,
    ) -> None:
        self._bus = bus
        self._id = id
        self._pools = tuple(pools)
        self._claims = claims
        self._on_silent = on_silent
        self._heard: dict[str, _Heard] = {}
        self._given: dict[str, None] = {}
        self._told: tuple[WorkerClaims, ...] = ()
        self._told_at = 0.0
        self._looked_at = 0.0

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        subscription = await self._bus.subscribe(subjects.SUPERVISORS, self._on_presence)
        try:
            await self._say("ready")
            task_status.started()
            while True:
                await anyio.sleep(_LOOK_S)
                self._told, before = tuple(self._some(self._claims())), self._told
                if self._told != before or time.monotonic() - self._told_at >= HEARTBEAT_S:
                    await self._say("ready")
                await self._look()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._say("leaving")
                await subscription.close()

    def workers(self) -> set[str]:
        """Workers of others of which we know what they hold."""
        return {worker for heard in self._heard.values() for worker in heard.said.workers}

    def held(self, pool: str) -> list[str]:
        """The receipts of what workers of others hold for longer than a moment."""
        claims = (claims for heard in self._heard.values() for claims in heard.said.claims if claims.pool == pool)
        return [receipt for one in claims for receipt in one.receipts]

    @staticmethod
    def _some(claims: Iterable[WorkerClaims]) -> Iterable[WorkerClaims]:
        """As much as a message holds; for the rest there is the ack wait."""
        count = 0
        for one in claims:
            count += len(one.receipts)
            if count <= _MOST_CLAIMS:
                yield one

    async def _say(self, state: str) -> None:
        if not self._bus.connected:  # what waits for the connection's return would be stale by then
            return
        self._told_at = time.monotonic()
        said = SupervisorPresence(
            supervisor=self._id,
            host=socket.gethostname(),
            pid=os.getpid(),
            state="ready" if state == "ready" else "leaving",
            pools=self._pools,
            workers=tuple(claims.worker for claims in self._told),
            claims=tuple(claims for claims in self._told if claims.receipts),
        )
        try:
            await self._bus.publish(subjects.supervisor(self._id), encode(said))
        except DspexError as error:
            logger.debug("presence was not said: %s", error)

    async def _on_presence(self, message: Message) -> None:
        try:
            said = decode(SupervisorPresence, message.data, subject=message.subject)
        except DecodeError as error:
            logger.warning("an announcement was ignored: %s", error)
            return
        if said.supervisor == self._id:
            return
        if said.state == "leaving":
            self._heard.pop(said.supervisor, None)
        else:
            self._heard[said.supervisor] = _Heard(time.monotonic(), said)

    async def _look(self) -> None:
        """For those that have fallen silent. Whoever was away himself has heard nobody, and starts anew."""
        now = time.monotonic()
        away = now - self._looked_at > _AWAY_S or not self._bus.connected
        self._looked_at = now
        if away:
            for heard in self._heard.values():
                heard.at = now
        for heard in [heard for heard in self._heard.values() if now - heard.at > SILENT_S]:
            del self._heard[heard.said.supervisor]
            await self._give_back(heard.said)

    async def _give_back(self, silent: SupervisorPresence) -> None:
        receipts = [
            receipt
            for claims in silent.claims
            if self._leads(claims.pool)
            for receipt in claims.receipts
            if receipt not in self._given
        ]
        logger.warning(
            "nothing is heard of the supervisor %s on %s; %d of its tasks are given back",
            silent.supervisor,
            silent.host,
            len(receipts),
        )
        try:
            for receipt in receipts:
                await self._bus.give_back(receipt)
                self._given[receipt] = None
        except DspexError as error:
            logger.warning("they were not all given back, their ack wait will do it: %s", error)
        while len(self._given) > _GIVEN_KEPT:
            del self._given[next(iter(self._given))]
        if any(self._leads(pool) for pool in silent.pools):
            self._on_silent()

    def _leads(self, pool: str) -> bool:
        if pool not in self._pools:
            return False
        fresh = time.monotonic() - 3 * HEARTBEAT_S
        others = (id for id, heard in self._heard.items() if heard.at > fresh and pool in heard.said.pools)
        return all(self._id < id for id in others)
