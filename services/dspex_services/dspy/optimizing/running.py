"""One life of a job: from what was left of it to its program, or to whatever ends it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import dspy
import msgspec

from dspex_bus.errors import InvalidRequest

from ...errors import BudgetExceeded, StepError
from ...evaluation.metrics import Score, Scorer, scorer
from ...evaluation.stored import stored_dataset
from ...handlers import Step
from ...optimizing.job import Job, ModuleSpec, check_names
from ...optimizing.rules import Sizes, check, optimizer_named
from ...programs import Origin, ProgramStore, digest_of
from ..adapters import adapter_for
from ..asking import BusAsk
from ..assembling import assembled
from ..engine import Calling
from ..failures import translated
from ..forwarding import FORWARD
from ..loading import apply
from ..metering import Halted, Stopped
from ..options import ModelOptions
from ..programs import Programs
from .ahead import bootstrapping_ahead
from .control import ENDED, Control, JobMeter
from .failing import Failing
from .fanout import Fanout
from .keeping import Keeping
from .making import ASSEMBLED, Made, Setting, examples, make, quietly, result_spec
from .remote import remote, state_of
from .sampling import sampling_told
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
        self._loop = asyncio.get_running_loop()
        self._kept_states: set[str] = set()
        self._spec = result_spec(job)
        self._keeping = Keeping(job, self._spec, step)

    async def run(self) -> dict[str, Any]:
        """The step's outputs. Raises StepError, DspexError, and CancelledError once the best so far is kept."""
        job = self._job
        check_names(job)
        record = await self._keeping.begin()
        train = await stored_dataset(self._step.bus, job.trainset)
        val = await stored_dataset(self._step.bus, job.valset) if job.valset else None
        check(job.optimizer, job.options, Sizes(job.module.members, len(train), len(val) if val else 0))
        self._control = Control(job.budget, record.usage, record.started_ms / 1000)
        examples_given = len(train) + (len(val) if val else 0)
        self._calls = Failing("the program", self._control, examples_given)
        self._scoring = Failing("the metric", self._control, examples_given)
        async with AsyncExitStack() as stack:
            self._fanout = await stack.enter_async_context(Fanout(self._step, job.pool))
            initial = await self._program(job.module)
            self._assembled = await self._program(self._spec) if self._spec is not job.module else None
            self._tracker = Tracker(self._control, initial, record.started_ms / 1000, record.starts - 1)
            await stack.enter_async_context(self._keeping.following(self._control, self._tracker))
            try:
                state = await self._optimized(initial, train.rows, val.rows if val else None)
            except asyncio.CancelledError:
                self._control.stop("cancelled")
                await self._keeping.leave()
                raise
            finally:
                self._control.stop(ENDED)
        return await self._keeping.finish(state)

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
            metric=self._watched(scorer(job.metric, ask, programs.functions)),
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
            with contextlib.redirect_stdout(_Nowhere()), bootstrapping_ahead(threads), sampling_told(self._tracker):
                if optimizer_named(job.optimizer) in ASSEMBLED:
                    return self._scored(setting, initial, self._assembled or initial, valset)
                made = make(job.optimizer, dict(job.options), setting, initial, (len(trainset), len(valset or ())))
                self._tracker.of, self._tracker.examples_of = made.of, made.examples_of
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
                state = await step.in_thread(work)
            except (Stopped, Halted) as ended:
                if isinstance(ended, Halted):
                    self._control.stop(f"budget: {ended.error.message}")
                best = self._tracker.best
                state = best[1] if best is not None else state_of(initial)
            except (ValueError, TypeError, AssertionError) as error:
                self._check_that_something_worked()
                raise InvalidRequest(f"{job.optimizer} cannot be run so: {error}", code="invalid_job") from error
            except Exception:
                # DSPy says of too many failures no more than that there were too many.
                self._check_that_something_worked()
                raise
            self._check_that_something_worked()
            return state

    def _check_that_something_worked(self) -> None:
        self._calls.check()
        self._scoring.check()

    def _watched(self, metric: Scorer) -> Scorer:
        def score(*arguments: Any) -> Score:
            with self._scoring.watched():
                return metric(*arguments)

        return score

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
        with self._control.call(), self._calls.watched():
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


class _Nowhere(io.TextIOBase):
    """Where DSPy's progress bars go."""

    def write(self, text: str) -> int:
        return len(text)
