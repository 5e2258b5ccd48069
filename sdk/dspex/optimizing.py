"""Optimizers as jobs: a better program out of examples and a metric, made by the pools and kept in the registry.

found = await dx.optimize(dspex.module("dspy.ChainOfThought", signature="question -> answer"), "train.jsonl",
                          optimizer="miprov2", metric="exact_match", num_candidates=20)
print(found.program, found.score)             # ChainOfThought-miprov2@1 83.3
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from dspex_bus import Message, subjects
from dspex_bus.errors import DecodeError, InvalidRequest, Unavailable
from dspex_bus.signatures import read_signature
from dspex_bus.wire import Progress, RunResult, StepDefinition, Usage, decode
from dspex_services.evaluation.builtin import COMPARISONS
from dspex_services.evaluation.datasets import Dataset, DataSource, load_dataset
from dspex_services.evaluation.metrics import check_labels
from dspex_services.evaluation.stored import keep_dataset
from dspex_services.optimizing import (
    Budget,
    Job,
    JobProgress,
    JobRecord,
    ModuleSpec,
    Records,
    Sizes,
    Trial,
    check,
    check_names,
    job_definition,
    optimizer_named,
)
from dspex_services.programs.fitting import check_asked
from dspex_services.programs.states import predictors

from .serving import Metric, Served, import_path, metric_for

if TYPE_CHECKING:
    from .client import Client
    from .sessions import Session

OnProgress = Callable[[JobProgress], None]

_QUEUE = 64
_QUIET_S = 0.5
"""After that long without a word it is asked whether the job has ended."""


class Optimized(msgspec.Struct, frozen=True, kw_only=True):
    """What a job came to. ``program`` is the stored version, which steps name with ``program: NAME@VERSION``;
    ``score`` and ``baseline`` are in per cent where something was scored; ``stopped`` says what ended it early."""

    program: str
    digest: str
    session: str = ""
    score: float | None = None
    baseline: float | None = None
    stopped: str = ""
    trials: tuple[Trial, ...] = ()
    usage: Usage = Usage()
    seconds: float = 0.0
    restarts: int = 0


class OptimizationJob:
    """A job that runs, wherever its worker is. ``session`` is its durable run, under which any process finds it."""

    def __init__(self, client: Client, session: Session, served: Served | None = None) -> None:
        self._client = client
        self._served = served
        self.session = session

    async def progress(self) -> AsyncIterator[JobProgress]:
        """How far it is, as its worker tells, until it ends. What comes faster than it is read is left out."""
        send, receive = anyio.create_memory_object_stream[JobProgress](_QUEUE)

        async def hear(message: Message) -> None:
            try:
                details = decode(Progress, message.data, subject=message.subject).details
            except DecodeError:
                return
            if details and send.statistics().current_buffer_used < _QUEUE:
                send.send_nowait(msgspec.convert(details, JobProgress))

        subscription = await self._client.bus.subscribe(subjects.session_progress(self.session.id), hear)
        try:
            while True:
                said: JobProgress | None = None
                with anyio.move_on_after(_QUIET_S):
                    said = await receive.receive()
                if said is not None:
                    yield said
                elif await self._is_over():
                    return
        finally:
            send.close()
            receive.close()
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await subscription.close()

    async def _is_over(self) -> bool:
        with suppress(Unavailable):
            return (await self.session.view()).status != "running"
        return False

    async def record(self) -> JobRecord | None:
        """What it has spent and the best it has found, also of one that was cancelled or lost."""
        return await Records(self._client.bus).get(self.session.id)

    async def cancel(self, reason: str = "") -> None:
        """End it. The best program so far is kept under its name, if there is one."""
        await self.session.cancel(reason)

    async def result(self, *, timeout_s: float = 30 * 86_400.0) -> Optimized:
        """The program it made. Raises RunFailed where it made none."""
        try:
            return optimized(await self.session.result(timeout_s=timeout_s))
        finally:
            if self._served is not None:
                await self._served.close()


def optimized(result: RunResult) -> Optimized:
    from ._runs import raise_unless_succeeded

    raise_unless_succeeded(result)
    return msgspec.convert({**(result.output or {}), "session": result.session}, Optimized)


async def start(
    client: Client,
    module: Any,
    trainset: DataSource | Dataset,
    *,
    metric: Metric,
    optimizer: str = "miprov2",
    programs: Sequence[str] = (),
    valset: DataSource | Dataset | None = None,
    inputs: Sequence[str] | None = None,
    teacher: Any = None,
    program: str = "",
    promote: str | None = None,
    budget: Budget | Mapping[str, Any] | None = None,
    seed: int | None = None,
    model: str | None = None,
    prompt_model: str | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    adapter: str = "chat",
    threads: int | None = None,
    session: str | None = None,
    **options: Any,
) -> OptimizationJob:
    """Begin a job and come back at once; it goes on whatever is killed.

    ``module`` is a step (``dspex.module(…)``), a module of DSPy's or your own, its import path, or the name of a stored
    program to go on from. ``metric`` is a built-in one, an import path, a handler or judge, or a function: one that
    cannot be imported (a lambda, one of ``__main__``) is served from here as long as this process waits for the result.
    ``programs`` are the stored ones that ``ensemble`` makes one of; ``module`` is then not looked at.
    ``options`` are the optimizer's own. What does not go together is refused here, before anything is spent: raises
    InvalidRequest saying what to change."""
    train = trainset if isinstance(trainset, Dataset) else load_dataset(trainset)
    val = None if valset is None else valset if isinstance(valset, Dataset) else load_dataset(valset)
    name = optimizer_named(optimizer)
    check(name, options, Sizes(len(programs), len(train), len(val) if val is not None else 0))
    spec = await (_ensemble(client, programs, options) if name == "ensemble" else module_spec(client, module))
    asked = tuple(inputs) if inputs is not None else train.inputs or _asked(spec)
    for one in (train, val):
        if one is not None:
            _check_fields(one, asked)
    served, scored = await metric_for(client.bus, metric)
    try:
        check_labels(scored, train.fields, asked)
        if name == "knn_few_shot" and scored.name not in COMPARISONS:
            raise InvalidRequest(
                "what knn_few_shot makes scores its demos at every request: its metric is one of "
                f"{', '.join(COMPARISONS)}",
                code="conflicting_options",
            )
        job = Job(
            module=spec,
            trainset=await keep_dataset(client.bus, train),
            valset="" if val is None else await keep_dataset(client.bus, val),
            inputs=asked,
            metric=scored,
            optimizer=name,
            options=options,
            teacher=None if teacher is None else await module_spec(client, teacher),
            program=program,
            promote=promote,
            budget=budget if isinstance(budget, Budget) else _budget(budget or {}),
            seed=seed,
            model=model,
            prompt_model=prompt_model,
            temperature=temperature,
            max_tokens=max_tokens,
            adapter=adapter,
            threads=threads,
        )
        check_names(job)
        handle = await client.submit(job_definition(job), session=session, timeout_s=job.timeout_s)
    except BaseException:
        if served is not None:
            await served.close()
        raise
    return OptimizationJob(client, handle, served)


async def optimize(
    client: Client,
    module: Any,
    trainset: DataSource | Dataset,
    *,
    on_progress: OnProgress | None = None,
    **given: Any,
) -> Optimized:
    """:func:`start` a job and wait for its program. ``on_progress`` hears how far it is."""
    job = await start(client, module, trainset, **given)
    if on_progress is None:
        return await job.result()
    async with _heard(job, on_progress):
        return await job.result()


@asynccontextmanager
async def _heard(job: OptimizationJob, on_progress: OnProgress) -> AsyncIterator[None]:
    async def hear() -> None:
        async for said in job.progress():
            on_progress(said)

    async with anyio.create_task_group() as group:
        group.start_soon(hear)
        yield
        group.cancel_scope.cancel()


async def module_spec(client: Client, module: Any) -> ModuleSpec:
    """What a user means by a module. Raises InvalidRequest, or NotFound for a program that is not there."""
    if isinstance(module, ModuleSpec):
        return module
    if isinstance(module, StepDefinition):
        return await _of_step(client, module)
    if isinstance(module, str):
        if ":" in module.partition("->")[0] and "->" not in module:
            return ModuleSpec(module=module)
        if "->" in module:
            return ModuleSpec(module="dspy.ChainOfThought", signature=module)
        return await _of_program(client, module)
    dspy = sys.modules.get("dspy")
    if dspy is not None and isinstance(module, dspy.Module):
        return await _of_instance(client, module, dspy)
    if dspy is not None and isinstance(module, type) and issubclass(module, dspy.Module):
        return ModuleSpec(module=_listed(module))
    raise InvalidRequest(
        f"{module!r} is no module: give a step (dspex.module(…)), a dspy.Module, an import path, or a stored program",
        code="invalid_job",
    )


async def _of_step(client: Client, step: StepDefinition) -> ModuleSpec:
    constants = dict(step.with_)
    if step.module is None:
        raise InvalidRequest("only steps of a DSPy module can be optimized: dspex.module(…)", code="invalid_job")
    digest = ""
    if "program" in constants:
        version = await client.programs.version(str(constants.pop("program")))
        signature = constants.get("signature")
        if isinstance(signature, str):
            check_asked(version.origin.signature, signature)
        digest = version.digest
    spec = ModuleSpec(
        module=step.module,
        signature=constants.pop("signature", None),
        instructions=constants.pop("instructions", None),
        digest=digest,
    )
    if constants:
        raise InvalidRequest(
            f"a job does not take the step's {', '.join(constants)}: model, temperature, max_tokens and adapter are "
            "arguments of the job itself",
            code="invalid_job",
        )
    return spec


async def _of_program(client: Client, reference: str) -> ModuleSpec:
    version = await client.programs.version(reference)
    origin = version.origin
    return ModuleSpec(
        module=origin.module,
        signature=origin.signature,
        instructions=origin.instructions,
        options=origin.options,
        digest=version.digest,
    )


async def _of_instance(client: Client, module: Any, dspy: Any) -> ModuleSpec:
    bare = module.deepcopy()
    bare.set_lm(None)
    digest = await client.programs.keep(bare.dump_state())
    if type(module) not in (dspy.Predict, dspy.ChainOfThought):
        return ModuleSpec(module=_listed(type(module)), digest=digest)
    from dspex_services.dspy.signatures import from_dspy

    signature = module.signature if type(module) is dspy.Predict else module.predict.signature
    if type(module) is dspy.ChainOfThought:
        signature = signature.delete("reasoning")
    converted = from_dspy(signature)
    if converted.types:
        raise InvalidRequest(
            f"the signature's own types ({', '.join(converted.types)}) cannot travel: put the module into a package "
            "that the pools list, and give its import path",
            code="invalid_job",
        )
    return ModuleSpec(
        module=f"dspy.{type(module).__name__}",
        signature=converted.signature.text,
        instructions=converted.signature.instructions or None,
        digest=digest,
    )


def _listed(kind: type) -> str:
    path = import_path(kind)
    if path is None:
        raise InvalidRequest(
            f"{kind.__qualname__} is of {kind.__module__}, which no worker can import: put it into a package, and list "
            "it at the pools: --module package.module:Class",
            code="invalid_job",
        )
    return path


async def _ensemble(client: Client, references: Sequence[str], options: Mapping[str, Any]) -> ModuleSpec:
    """Stored programs as one, its state theirs together."""
    members = [await _of_program(client, reference) for reference in references]
    state: dict[str, Any] = {}
    for place, member in enumerate(members):
        for name, predictor in predictors(await client.programs.state(member.digest)).items():
            path = f"voting.programs[{place}]"
            state[path if name == "self" else f"{path}.{name}"] = predictor
    said = {"members": [msgspec.to_builtins(member) for member in members], **options}
    return ModuleSpec(module="dspy.Ensemble", options=said, digest=await client.programs.keep(state))


def _asked(spec: ModuleSpec) -> tuple[str, ...]:
    if spec.options.get("members"):
        return _asked(msgspec.convert(spec.options["members"][0], ModuleSpec))
    if spec.signature is None:
        raise InvalidRequest("say which of the examples' fields are asked, with inputs", code="missing_field")
    return tuple(field.name for field in read_signature(spec.signature).inputs if not field.optional)


def _check_fields(dataset: Dataset, asked: Sequence[str]) -> None:
    for place, row in enumerate(dataset.rows, 1):
        missing = [name for name in asked if name not in row]
        if missing:
            raise InvalidRequest(
                f"example {place} of {dataset.name} has no {', '.join(missing)}; it has: {', '.join(row)}",
                code="missing_field",
            )


def _budget(given: Mapping[str, Any]) -> Budget:
    try:
        return msgspec.convert(dict(given), Budget)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the budget cannot be used: {error}", code="invalid_job") from error
