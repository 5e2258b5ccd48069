"""Steps with an affinity: a task that comes to one worker is run by the one that its session is at home with.

Tasks stay in the pool's own queue, so that none is lost or stuck with a worker that is gone. Whoever gets one asks the
home to run it, sees to its delivery and its outcome as for any other, and runs it itself once the home is gone. A task
for a handler that the worker does not have, as while a pool is upgraded, is asked of one that has it in the same way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from dspex_bus import Message, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DeadlineExceeded, Unavailable
from dspex_bus.wire import (
    ErrorInfo,
    StepCancelled,
    StepFailed,
    StepOutcome,
    StepTimedOut,
    Task,
    alone,
    decode_outcome,
    encode,
)

from .attempt import Attempt, timeout_error
from .direct import DirectCalls

if TYPE_CHECKING:
    from .worker import Worker

logger = logging.getLogger("dspex.worker")

AFFINITY = "Dspex-Affinity"
"""Header of what a home is asked: ``hint`` or ``strict``."""

_BUSY = "home_busy"
_LEAVING = "home_leaving"
_LOOK_S = 0.25
_SILENT_S = 2.0
"""A home that answers no probe for that long is gone, whatever the server says."""
_MARGIN_S = 2.0


class Home(DirectCalls):
    """Runs what belongs to this worker, in slots of its own: those who ask hold slots of theirs meanwhile, and must not
    wait for each other in a circle. An attempt that it is asked for twice is run once."""

    leaving = _LEAVING

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self._asked: dict[tuple[str, str, int], asyncio.Future[StepOutcome]] = {}

    async def start(self) -> None:
        config = self._worker.config
        subject = subjects.home(config.pool, config.name)
        self._subscriptions.append(await self._worker.bus.subscribe(subject, self._on_call))

    async def _on_call(self, message: Message) -> None:
        config = self._worker.config
        if (message.headers or {}).get(AFFINITY) == "hint" and self._inside >= config.slots:
            error = ErrorInfo(code=_BUSY, message=f"the worker {config.name} has no slot free", retryable=True)
            await self._reply(message, StepFailed(error=error, worker=config.name))
            return
        await super()._on_call(message)

    async def _run(self, task: Task) -> tuple[StepOutcome, Attempt | None]:
        place = (task.session, task.node, task.attempt)
        asked = self._asked.get(place)
        if asked is not None:
            return await asyncio.shield(asked), None
        asked = self._asked[place] = asyncio.get_running_loop().create_future()
        try:
            outcome, attempt = await super()._run(task)
            asked.set_result(outcome)
            return outcome, attempt
        finally:
            del self._asked[place]
            if not asked.done():
                asked.cancel()


class Homes:
    """Asks other workers to run what belongs to them."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._claims = Claims(worker.bus)

    async def outcome(self, task: Task) -> StepOutcome | None:
        """Of a task whose home is another worker; None where it is for us to run, because that worker is gone or, for a
        hint, has no slot free."""
        asking = asyncio.ensure_future(self._ask(task, self._left_s(task) + _MARGIN_S))
        seen = time.monotonic()
        try:
            while not (await asyncio.wait({asking}, timeout=_LOOK_S))[0]:
                lives = await self._lives(task.home)
                if lives:
                    seen = time.monotonic()
                elif lives is False or time.monotonic() - seen > _SILENT_S:
                    logger.info("%s of %s: its worker %s is gone", task.handler, task.session, task.home)
                    return None
            return asking.result()
        finally:
            asking.cancel()

    async def of_another(self, task: Task) -> StepOutcome | None:
        """Of a task for a handler that others of the pool have; None where nobody has it. Raises Unavailable where
        nobody came to run it: it had better be delivered again."""
        subject = subjects.now(self._worker.config.pool, task.handler)
        # What travels along may need handlers that the other does not have.
        body, timeout_s = encode(alone(task)), self._left_s(task) + _MARGIN_S
        try:
            answer = await self._claims.request(subject, body, timeout_s=timeout_s)
        except DeadlineExceeded:
            return StepTimedOut(error=timeout_error(task), worker=self._worker.config.name)
        except Unavailable as error:
            if error.code == "no_responders":
                return None
            raise
        outcome = decode_outcome(answer.data, subject=subject)
        if isinstance(outcome, StepFailed) and not outcome.started_ms:
            raise Unavailable(outcome.error.message)  # it has no room, or left or died before it was done
        return outcome

    async def _ask(self, task: Task, timeout_s: float) -> StepOutcome | None:
        subject = subjects.home(self._worker.config.pool, task.home)
        headers = {AFFINITY: task.affinity or "hint"}
        try:
            answer = await self._claims.request(subject, encode(task), headers=headers, timeout_s=timeout_s)
        except DeadlineExceeded:
            return StepTimedOut(error=timeout_error(task), worker=task.home)
        except Unavailable as error:
            if error.code == "no_responders":
                return None
            raise
        outcome = decode_outcome(answer.data, subject=subject)
        if isinstance(outcome, StepFailed) and outcome.error.code in (_BUSY, _LEAVING):
            return None
        return outcome

    def _left_s(self, task: Task) -> float:
        return max(0.0, min(task.timeout_ms, self._worker.bus.clock.left_ms(task.deadline_ms)) / 1000)

    async def _lives(self, worker: str) -> bool | None:
        """None where it does not answer."""
        try:
            await self._worker.bus.request(subjects.probe(worker), timeout_s=_LOOK_S)
        except Unavailable as error:
            return False if error.code == "no_responders" else None
        return True


def cancelled(outcome: StepOutcome) -> bool:
    """Whether it says that nobody wants the attempt any more: the router has recorded that already."""
    return isinstance(outcome, StepCancelled)
