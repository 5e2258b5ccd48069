"""One life of a job: from what was left of it to its program, or to whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import dspy
import msgspec

from dspex_bus import subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DspexError, InvalidRequest
from dspex_bus.wire import Progress, SessionRequest, SessionView, decode, encode

from ...budgets import BudgetExceeded
from ...errors import StepError
from ...evaluation.metrics import scorer
from ...evaluation.stored import stored_dataset
from ...handlers import Step
from ...optimizing.job import Job, ModuleSpec
from ...optimizing.progress import JobProgress
from ...optimizing.record import MOST_STARTS, JobRecord, Records
from ...optimizing.rules import OPTIMIZERS, Sizes, check, optimizer_named
from ...programs import Origin, ProgramStore, ProgramVersion, digest_of
from ..adapters import adapter_for
from ..asking import BusAsk
from ..assembling import NEAREST, assembled
from ..engine import Calling
from ..failures import translated
from ..forwarding import FORWARD
from ..loading import apply
from ..metering import Halted, Stopped
from ..options import ModelOptions
from ..programs import Programs
from .ahead import bootstrapping_ahead
from .control import Control, JobMeter
from .fanout import Fanout
from .making import Made, Setting, examples, make, quietly
from .remote import remote, state_of
from .tracking import Tracker

logger = logging.getLogger("dspex.worker")

_SAY_S = 0.25
_KEEP_EVERY_S = 1.0
_ASK_S = 2.0
_LEAVE_S = 5.0
_LARGE_STATE = 128 * 1024
_PURE = ("dspy.Predict", "dspy.ChainOfThought")
_MOST_THREADS = 64


class Running:
    """``await Running(programs, job, step).run()``, once."""

    def __init__(self, programs: Programs, job: Job, step: Step) -> None:
        self._programs = programs
        self._job = job
        self._step = step
        self._store = ProgramStore(step.bus)
        self._records = Records(step.bus)
        self._loop = asyncio.get_running_loop()
        self._record = JobRecord(started_ms=int(time.time() * 1000))
        self._kept_states: set[str] = set()
        self._best: tuple[float, Any] | None = None
        self._spec = result_spec(job)

    async def run(self) -> dict[str, Any]:
        """The step's outputs. Raises StepError, DspexError, and CancelledError once the best so far is kept."""
        job = self._job
        await self._begin()
        train = await stored_dataset(self._step.bus, job.trainset)
        val = await stored_dataset(self._step.bus, job.valset) if job.valset else None
        check(job.optimizer, job.options, Sizes(job.module.members, len(train), len(val) if val else 0))
        self._control = Control(job.budget, self._record.usage, self._record.started_ms / 1000)
        async with AsyncExitStack() as stack:
            self._fanout = await stack.enter_async_context(Fanout(self._step, job.pool))
            initial = await self._program(job.module)
            self._assembled = await self._program(self._spec) if self._spec is not job.module else None
            self._tracker = Tracker(
                self._control, initial, self._record.started_ms / 1000, max(0, self._record.starts - 1)
            )
            saying = asyncio.create_task(self._say_and_keep(), name="progress")
            stack.push_async_callback(_ended, saying)
            try:
                state = await self._optimized(initial, train.rows, val.rows if val else None)
            except asyncio.CancelledError:
                self._control.stop("cancelled")
                await self._leave()
                raise
            finally:
                self._control.stop("ended")
        return await self._finish(state)

    async def _begin(self) -> None:
        """Take up what an earlier life left. A job that gets no further however often it starts is given up."""
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

    async def _program(self, spec: ModuleSpec) -> Any:
        """The module in the state it starts from, its calls going to the pool."""
        module = await assembled(
            self._programs,
            self._step.bus,
            Origin(module=spec.module, signature=spec.signature, instructions=spec.instructions, options=spec.options),
        )
        if spec.digest:
            apply(module, await self._programs.loader.state(self._step.bus, spec.digest), self._programs.models)
        return remote(module, spec, self._forward, self._job.adapter)

    async def _optimized(
        self, initial: Any, train: Sequence[dict[str, Any]], val: Sequence[dict[str, Any]] | None
    ) -> dict[str, Any]:
        job, programs, step = self._job, self._programs, self._step
        quietly()
        lm = programs.models.get(job.model, job.temperature, job.max_tokens)
        prompt_lm = programs.models.get(job.prompt_model or job.model, job.temperature, job.max_tokens)
        ask = BusAsk(step)
        threads = job.threads or min(_MOST_THREADS, await self._fanout.slots())
        setting = Setting(
            metric=scorer(job.metric, ask, programs.functions),
            spec=job.metric,
            threads=threads,
            prompt_lm=prompt_lm,
            task_lm=lm,
            seed=job.seed,
            teacher=await self._program(job.teacher) if job.teacher is not None else None,
        )
        trainset = examples(train, job.inputs)
        valset = examples(val, job.inputs) if val is not None else None
        meter = JobMeter(lm.model, step, self._control, self._tracker.proposing)
        engine = programs.models.engine
        if engine.cache is None:
            engine.cache = step.cache

        def work() -> dict[str, Any]:
            with contextlib.redirect_stdout(_Nowhere()), bootstrapping_ahead(threads):
                if optimizer_named(job.optimizer) in ASSEMBLED:
                    return self._scored(setting, initial, self._assembled or initial, valset)
                made = make(job.optimizer, dict(job.options), setting, initial, (len(trainset), len(valset or ())))
                self._tracker.of = made.of
                return self._compiled(made, setting, initial, trainset, valset)

        context = dspy.context(
            lm=lm,
            adapter=adapter_for(ModelOptions(adapter=job.adapter), programs.models),
            trace=[],
            disable_history=True,
            callbacks=[meter, self._tracker],
        )
        with context, translated(), engine.calling(Calling(ttl=job.keep_s, meter=meter)):
            try:
                return await step.in_thread(work)
            except (Stopped, Halted) as ended:
                if isinstance(ended, Halted):
                    self._control.stop(f"budget: {ended.error.message}")
                best = self._tracker.best
                return best[1] if best is not None else state_of(initial)
            except (ValueError, TypeError, AssertionError) as error:
                raise InvalidRequest(f"{job.optimizer} cannot be run so: {error}", code="invalid_job") from error

    def _compiled(
        self, made: Made, setting: Setting, student: Any, train: list[Any], val: list[Any] | None
    ) -> dict[str, Any]:
        """The optimized program's state; with a valset, scored on it."""
        return self._scored(setting, student, made.run(student.deepcopy(), train, val), val)

    def _scored(self, setting: Setting, student: Any, program: Any, val: list[Any] | None) -> dict[str, Any]:
        state = state_of(program)
        if val and self._tracker.score_of(state) is None:
            self._tracker.phase = "scoring"
            evaluate = dspy.Evaluate(
                devset=val, metric=setting.score, num_threads=setting.threads, max_errors=len(val) + 1
            )
            for one in (student, program):
                if self._tracker.score_of(state_of(one)) is None:
                    evaluate(one)
        return state

    # --- calls from the optimizer's threads ---

    def _forward(self, request: dict[str, Any]) -> dict[str, Any]:
        self._tracker.calling()
        with self._control.call():
            work = self._called(request)
            answer: dict[str, Any] = self._control.wait(asyncio.run_coroutine_threadsafe(work, self._loop))
            return answer

    async def _called(self, request: dict[str, Any]) -> dict[str, Any]:
        state = msgspec.json.encode(request["state"])
        if len(state) > _LARGE_STATE:
            digest = digest_of(request["state"])
            if digest not in self._kept_states:
                self._kept_states.add(await self._store.keep(request["state"]))
            request = {**request, "state": None, "digest": digest}
        try:
            outputs, usage = await self._fanout.call(
                FORWARD, {**request, "cache": self._job.keep_s}, self._control.spent, self._kept_for(request)
            )
        except StepError as error:
            if error.code == BudgetExceeded.code:
                self._control.stop(f"budget: {error.message}")
            raise
        self._control.count(usage)
        return outputs

    def _kept_for(self, request: dict[str, Any]) -> float:
        """Answers of code that is not DSPy's are kept whole: it may do more than ask models, and another start must
        decide by the same answers."""
        return 0.0 if request["origin"]["module"] in _PURE else self._job.keep_s

    # --- what is said and kept meanwhile ---

    async def _say_and_keep(self) -> None:
        said, kept = -1, 0.0
        while True:
            self._control.look_at_the_clock()
            if said != self._tracker.changes:
                said = self._tracker.changes
                await self._say(self._tracker.progress())
                if time.monotonic() - kept > _KEEP_EVERY_S:
                    kept = time.monotonic()
                    await self._keep()
            await asyncio.sleep(_SAY_S)

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
        """Spending, scores and the best program so far: what is left when this worker is not."""
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
        try:
            await self._records.put(self._step.session, self._record)
        except DspexError as error:
            logger.warning("the job's record was not kept: %s", error)

    def _update(self, **changes: Any) -> None:
        self._record = msgspec.structs.replace(self._record, **changes)

    # --- ends ---

    async def _finish(self, state: dict[str, Any]) -> dict[str, Any]:
        stopped = self._control.reason if self._control.reason != "ended" else ""
        self._tracker.phase = "done"
        self._update(stopped=stopped)
        version = await self._kept(state, stopped)
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

    async def _kept(self, state: dict[str, Any], note: str) -> ProgramVersion:
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
            tag=job.promote,
        )
        self._update(program=f"{job.name}@{version.version}", best=version.digest)
        return version

    async def _leave(self) -> None:
        """Where the session was cancelled, keep the best so far under its name; where only this worker has to go,
        another will go on."""
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
        await self._kept(best[1], "cancelled")
        await self._records.put(self._step.session, self._record)

    async def _cancelled(self) -> bool:
        subject = subjects.session("get")
        answer = await Claims(self._step.bus).request(
            subject, encode(SessionRequest(session=self._step.session)), timeout_s=_ASK_S
        )
        view = decode(SessionView, answer.data, subject=subject)
        return view.cancel_requested or view.status != "running"


class _Nowhere(io.TextIOBase):
    """Where DSPy's progress bars go."""

    def write(self, text: str) -> int:
        return len(text)


ASSEMBLED = ("ensemble", "knn_few_shot")
"""Optimizers that put programs together and change none."""


def result_spec(job: Job) -> ModuleSpec:
    """What the result is a program of: the job's own module, but for one that is put around it."""
    if optimizer_named(job.optimizer) != "knn_few_shot":
        return job.module
    bootstrap = {name: value for name, value in job.options.items() if name != "k"}
    options: dict[str, Any] = {
        "inner": msgspec.to_builtins(job.module),
        "trainset": job.trainset,
        "inputs": list(job.inputs),
        "k": job.options["k"],
        "bootstrap": bootstrap,
        "metric": job.metric.name,
    }
    return ModuleSpec(module=NEAREST, options=options)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
