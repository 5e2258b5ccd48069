"""What a job says while it runs, and what is left of it when its worker is not: its record, and its program."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import dspy
import msgspec

from dspex_bus import subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DspexError
from dspex_bus.wire import Progress, SessionRequest, SessionView, decode, encode

from ...errors import StepError
from ...handlers import Step
from ...optimizing.job import Job, ModuleSpec
from ...optimizing.progress import JobProgress
from ...optimizing.record import MOST_STARTS, JobRecord, Records
from ...optimizing.rules import OPTIMIZERS, optimizer_named
from ...programs import Origin, ProgramStore, ProgramVersion
from .control import ENDED, Control
from .tracking import Tracker

logger = logging.getLogger("dspex.worker")

_SAY_S = 0.25
_SOON_S = 0.02
"""That a job has got further is kept at once: a worker that is killed soon after has not been in vain."""

_KEEP_EVERY_S = 1.0
_ASK_S = 2.0
_LEAVE_S = 5.0


class Keeping:
    """``spec`` is what the job's program is made of."""

    def __init__(self, job: Job, spec: ModuleSpec, step: Step) -> None:
        self._job = job
        self._spec = spec
        self._step = step
        self._store = ProgramStore(step.bus)
        self._records = Records(step.bus)
        self._record = JobRecord(started_ms=int(time.time() * 1000))
        self._best: tuple[float, Any] | None = None

    async def begin(self) -> JobRecord:
        """Take up what an earlier life left. A job that gets no further however often it starts is given up: raises
        StepError."""
        found = await self._records.get(self._step.session)
        if found is not None:
            self._record = found
        if self._record.idle_starts >= MOST_STARTS:
            raise StepError(
                f"the job was started {self._record.idle_starts} times without getting any further: something ends its "
                "worker each time",
                code="optimizer_lost",
            )
        self._update(starts=self._record.starts + 1, idle_starts=self._record.idle_starts + 1)
        await self._records.put(self._step.session, self._record)
        return self._record

    @asynccontextmanager
    async def following(self, control: Control, tracker: Tracker) -> AsyncIterator[None]:
        """Say and keep how far it is, as long as this is entered."""
        self._control, self._tracker = control, tracker
        saying = asyncio.create_task(self._say_and_keep(), name="progress")
        try:
            yield
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)

    async def _say_and_keep(self) -> None:
        said, kept, kept_at = -1, -1, 0.0
        while True:
            self._control.look_at_the_clock()
            if said != self._tracker.changes:
                said = self._tracker.changes
                await self._say(self._tracker.progress())
            further = self._control.fresh and self._record.idle_starts > 0
            if further or (kept < said and time.monotonic() - kept_at > _KEEP_EVERY_S):
                kept, kept_at = said, time.monotonic()
                await self._keep()
            await asyncio.sleep(_SAY_S if self._record.idle_starts == 0 else _SOON_S)

    async def _say(self, progress: JobProgress) -> None:
        step = self._step
        message = Progress(
            worker=step.worker,
            started_ms=self._record.started_ms,
            note=progress.line(),
            fraction=progress.fraction,
            details=msgspec.to_builtins(progress),
        )
        with contextlib.suppress(DspexError):
            await step.bus.publish(subjects.progress(step.session, step.node, step.attempt), encode(message))

    async def _keep(self) -> None:
        """Spending, scores and the best program so far."""
        try:
            best = self._tracker.best
            if best is not None and best != self._best:
                digest = await self._store.keep(best[1])
                self._best = best
                self._update(best=digest, best_score=best[0])
            self._update(
                usage=self._control.spent,
                baseline=self._tracker.baseline,
                phase=self._tracker.phase,
                history=self._tracker.history,
            )
            if self._control.fresh:
                self._update(idle_starts=0)
            await self._records.put(self._step.session, self._record)
        except DspexError as error:
            logger.warning("the job's record was not kept: %s", error)

    def _update(self, **changes: Any) -> None:
        self._record = msgspec.structs.replace(self._record, **changes)

    async def finish(self, state: dict[str, Any]) -> dict[str, Any]:
        """Keep the program that came out; the step's outputs."""
        stopped = self._control.reason if self._control.reason != ENDED else ""
        self._tracker.phase = "done"
        self._update(stopped=stopped)
        better = not stopped or self._tracker.best is not None
        version = await self._kept(state, stopped, self._job.promote if better else None)
        await self._keep()
        progress = self._tracker.progress()
        await self._say(progress)
        self._step.usage = progress.usage
        return {
            "program": f"{self._job.name}@{version.version}",
            "digest": version.digest,
            "score": self._tracker.score_of(state),
            "baseline": progress.baseline,
            "stopped": stopped,
            "trials": msgspec.to_builtins(self._tracker.history),
            "usage": msgspec.to_builtins(progress.usage),
            "seconds": progress.took_s,
            "restarts": progress.restarts,
        }

    async def _kept(self, state: dict[str, Any], note: str, tag: str | None) -> ProgramVersion:
        """The program as the next version of its name."""
        job, score = self._job, self._tracker.score_of(state)
        version = await self._store.put(
            job.name,
            state,
            Origin(
                module=self._spec.module,
                signature=self._spec.signature,
                instructions=self._spec.instructions,
                options=self._spec.options,
                dspy_version=dspy.__version__,
                optimizer=OPTIMIZERS[optimizer_named(job.optimizer)].name,
                settings=msgspec.to_builtins({**job.options, **({} if job.seed is None else {"seed": job.seed})}),
                metric=job.metric.label,
                scores={} if score is None else {"valset" if job.valset else "trainset": score},
                trainset=job.trainset,
                parent=job.module.digest,
                job=self._step.session,
                note=f"stopped: {note}" if note else "",
            ),
            tag=tag,
        )
        self._update(program=f"{job.name}@{version.version}", best=version.digest)
        return version

    async def leave(self) -> None:
        """Where the session was cancelled, keep the best so far under its name, unpromoted; where only this worker has
        to go, another will go on."""
        try:
            async with asyncio.timeout(_LEAVE_S):
                await asyncio.shield(asyncio.ensure_future(self._left()))
        except (DspexError, TimeoutError) as error:
            logger.warning("the best program so far is only in the job's record: %s", error)

    async def _left(self) -> None:
        await self._keep()
        best = self._tracker.best
        if best is None or not await self._cancelled():
            return
        self._update(stopped="cancelled")
        await self._kept(best[1], "cancelled", None)
        await self._records.put(self._step.session, self._record)

    async def _cancelled(self) -> bool:
        subject = subjects.session("get")
        answer = await Claims(self._step.bus).request(
            subject, encode(SessionRequest(session=self._step.session)), timeout_s=_ASK_S
        )
        view = decode(SessionView, answer.data, subject=subject)
        return view.cancel_requested or view.status != "running"
