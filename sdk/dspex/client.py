"""The client: what a program asks of a running dspex system."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, Unpack

import dspex_bus.signatures.errors  # noqa: F401 - an error's code becomes one of the classes that are loaded
import dspex_services.errors  # noqa: F401
from dspex_bus import Bus, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import Disconnected, NoRouter, RunFailed, Unavailable
from dspex_bus.wire import (
    Budget,
    CallReply,
    CallRequest,
    DeadLetter,
    DeadList,
    DeadListRequest,
    DeadRequest,
    ErrorInfo,
    Implementation,
    LimitDefinition,
    LimitList,
    LimitPut,
    LimitRequest,
    LimitView,
    PipelineDefinition,
    PipelineList,
    PipelinePut,
    PipelineRequest,
    PipelineView,
    PoolList,
    RunRequest,
    RunResult,
    ScheduleDefinition,
    ScheduleList,
    SchedulePut,
    ScheduleRequest,
    ScheduleView,
    SessionList,
    SessionListRequest,
    StoredEvent,
    Submitted,
    decode,
    encode,
    error_from,
    error_info,
)

from ._feed import TokenEvent, telling
from .options import RunOptions
from .predictions import Prediction, Predictor
from .sessions import Session

if TYPE_CHECKING:
    from dspex_bus import Message
    from dspex_bus.signatures import Signature
    from dspex_services.evaluation.datasets import Dataset, DataSource
    from dspex_services.programs import ProgramStore
    from dspex_services.templates import TemplateStore
    from dspex_services.tenants import TenantStore
    from dspex_services.threads import ThreadStore

    from .evaluating import Evaluation, Target
    from .explaining import Explanation
    from .optimizing import OptimizationJob, Optimized

T = TypeVar("T")

Pipeline = PipelineDefinition | str
"""A definition, or the name of a stored one."""

SignatureForm: TypeAlias = "Signature | str | Mapping[str, Any] | type"

DEFAULT_TIMEOUT_S = 60.0
_MARGIN_S = 5.0
"""How much longer a client waits than it allows the work to take, so that the system's own answer comes first."""


@asynccontextmanager
async def connect(server: str | None = None, *, name: str = "dspex-client", **options: Any) -> AsyncIterator[Client]:
    """A client of the system behind ``server`` (default: the environment's ``DSPEX_SERVER``, else
    ``nats://127.0.0.1:4222``). ``options`` go to the connection: user, password, credentials, TLS.

        async with dspex.connect() as dx:
            print((await dx.predict("question -> answer", question="What is a pool?")).answer)
    """
    from ._connecting import open_bus

    async with open_bus(server, name=name, **options) as bus:
        yield Client(bus)


class Client:
    """Operations, runs, sessions, pipelines and pools, over one connection. Safe to use from many tasks at once."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self._claims = Claims(bus)

    @cached_property
    def programs(self) -> ProgramStore:
        """Stored programs: versions, tags, promotion."""
        from dspex_services.programs import ProgramStore

        return ProgramStore(self.bus)

    @cached_property
    def templates(self) -> TemplateStore:
        """Stored templates and their versions."""
        from dspex_services.templates import TemplateStore

        return TemplateStore(self.bus)

    @cached_property
    def tenants(self) -> TenantStore:
        """What tenants may use together, and what they have used."""
        from dspex_services.tenants import TenantStore

        return TenantStore(self.bus)

    @cached_property
    def threads(self) -> ThreadStore:
        """Conversations that runs of a ``thread`` go on with."""
        from dspex_services.threads import ThreadStore

        return ThreadStore(self.bus)

    # --- operations: one answer, nothing stored ---

    def signature(self, spec: SignatureForm, instructions: str | None = None) -> Signature:
        """The signature that ``spec`` spells out, as a text, a class with ``Input[…]`` and ``Output[…]``, or plain
        data. Read here: it costs microseconds and no message."""
        from dspex_bus.signatures import signature_of

        return signature_of(spec, instructions)

    async def compile_signature(self, spec: str, **options: Any) -> Prediction:
        """The signature's fields, JSON Schemas and digest, as any client in any language gets them."""
        return await self.call("compile_signature", constants={"spec": spec}, **options)

    async def predict(
        self,
        signature: SignatureForm,
        inputs: Mapping[str, Any] | None = None,
        *,
        implementation: Implementation = "auto",
        config: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        **fields: Any,
    ) -> Prediction:
        """The signature's outputs for ``inputs`` (a mapping, or keywords). ``config``: model, temperature,
        max_tokens, demos."""
        constants = {**_signed(signature), **(config or {})}
        values = {**(inputs or {}), **fields}
        return await self.call(
            "predict", inputs=values, constants=constants, implementation=implementation, timeout_s=timeout_s
        )

    async def lm(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        config: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
        **limits: Any,
    ) -> Prediction:
        """A direct call of the model, without a signature: a text or messages in; ``text``, ``tool_calls``,
        ``message``, ``finish_reason`` and ``usage`` out. ``config``: model, system, temperature, response_schema…"""
        asked = {"prompt": prompt} if isinstance(prompt, str) else {"messages": [dict(message) for message in prompt]}
        constants = {**(config or {}), **({"tools": [dict(tool) for tool in tools]} if tools else {})}
        return await self.call("lm", inputs=asked, constants=constants, timeout_s=timeout_s, **limits)

    def predictor(
        self, kind: str, signature: SignatureForm, *, implementation: Implementation = "auto", **config: Any
    ) -> Predictor:
        """An operation bound to a signature. ``kind``: ``predict``, ``chain_of_thought``, ``react``, or any
        handler's name."""
        return Predictor(self, kind, {**_signed(signature), **config}, implementation)

    def chain_of_thought(self, signature: SignatureForm, **config: Any) -> Predictor:
        """A predictor that reasons before it answers; its outputs have a ``reasoning`` field."""
        return self.predictor("chain_of_thought", signature, **config)

    def react(self, signature: SignatureForm, tools: Sequence[Any], **config: Any) -> Predictor:
        """A predictor that uses tools, which are handlers on the bus: their names, or mappings with ``name``,
        ``handler`` and the constants ``with``."""
        return self.predictor("react", signature, tools=list(tools), **config)

    async def call(
        self,
        operation: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        constants: Mapping[str, Any] | None = None,
        implementation: Implementation = "auto",
        pool: str | None = None,
        timeout_s: float | None = None,
        budget: Budget | None = None,
        tenant: str = "",
    ) -> Prediction:
        """One operation, or any handler by name. The execution router picks the implementation; the answer says
        which."""
        request = CallRequest(
            with_=dict(constants or {}),
            inputs=dict(inputs or {}),
            implementation=implementation,
            pool=pool,
            timeout_s=timeout_s,
            budget=budget,
            tenant=tenant,
        )
        wait = (timeout_s or DEFAULT_TIMEOUT_S) + _MARGIN_S
        return Prediction(await self._ask(subjects.call(operation), request, CallReply, wait))

    # --- runs: durable sessions ---

    async def run(
        self,
        pipeline: Pipeline,
        input: Mapping[str, Any] | None = None,
        *,
        timeout_s: float = 600.0,
        session: str | None = None,
        durability: str = "stored",
        on_token: Callable[[TokenEvent], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run to the end and answer with the result. Raises RunFailed (its ``code`` says why, ``details`` has the
        session) when the run ended without success. ``durability="none"`` keeps it out of every stream: faster, not
        recoverable. ``budget`` is what its LM calls may use, in place of the pipeline's; ``tenant`` is who it is
        for; ``thread`` names the conversation that steps with ``remember`` go on with. ``on_token`` is called with what
        the steps say of their models' tokens, as it comes."""
        durable = durability != "none"
        if on_token is not None:
            options["stream"] = True
        if session is None and (durable or on_token is not None):
            session = secrets.token_hex(12)
        async with nullcontext() if on_token is None else telling(self.bus, str(session), on_token):
            result = await self._result(pipeline, input, timeout_s, session, durability, options)
        raise_unless_succeeded(result)
        return result

    async def _result(
        self,
        pipeline: Pipeline,
        input: Mapping[str, Any] | None,
        timeout_s: float,
        session: str | None,
        durability: str,
        options: RunOptions,
    ) -> RunResult:
        name, request = _request(pipeline, input, timeout_s, session, durability, options)
        try:
            return await self._ask(subjects.run(name), request, RunResult, timeout_s + _MARGIN_S)
        except Disconnected:
            if durability == "none":
                raise
            # The answer went with the connection, the session did not: the same id again is the same session.
            handle = await self.submit(pipeline, input, timeout_s=timeout_s, session=session, **options)
            return await handle.result(timeout_s=timeout_s + _MARGIN_S)

    async def submit(
        self,
        pipeline: Pipeline,
        input: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        session: str | None = None,
        **options: Unpack[RunOptions],
    ) -> Session:
        """Start a run and come back at once. When this returns, the session is stored and will end, whatever is
        killed. With ``stream`` its steps say the model's tokens: see :meth:`stream`, and :meth:`Session.tokens`."""
        name, request = _request(pipeline, input, timeout_s, session, "stored", options)
        submitted = await self._ask(subjects.submit(name), request, Submitted)
        return Session(self, submitted.session)

    async def stream(
        self,
        pipeline: Pipeline,
        input: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        session: str | None = None,
        tokens: bool = False,
        **options: Unpack[RunOptions],
    ) -> AsyncIterator[StoredEvent | TokenEvent]:
        """Start a run and yield its events as they are stored, up to and with the end; with ``tokens`` also what its
        steps say of the model's tokens, from the first."""
        handle = self.session(session or secrets.token_hex(12))
        if tokens:
            options["stream"] = True

        async def begin() -> None:
            await self.submit(pipeline, input, timeout_s=timeout_s, session=handle.id, **options)

        async for item in handle.follow(tokens=tokens, begin=begin):
            yield item

    def session(self, id: str) -> Session:
        """A handle on a session started anywhere."""
        return Session(self, subjects.token(id, "session"))

    async def sessions(self, *, ended: bool = True, limit: int = 50) -> SessionList:
        return await self.ask("session", "list", SessionListRequest(ended=ended, limit=limit), SessionList)

    # --- evaluation ---

    async def evaluate(self, target: Target, dataset: DataSource | Dataset, **options: Any) -> Evaluation:
        """How a program, a step or a pipeline does on a data set: see :func:`dspex.evaluating.evaluate`."""
        from .evaluating import evaluate

        return await evaluate(self, target, dataset, **options)

    # --- optimizing ---

    async def optimize(self, module: Any, trainset: DataSource | Dataset, **given: Any) -> Optimized:
        """A better program by one of DSPy's optimizers, as a durable job: see :func:`dspex.optimizing.start` for what
        it takes, and ``on_progress``."""
        from .optimizing import optimize

        return await optimize(self, module, trainset, **given)

    async def start_optimizing(self, module: Any, trainset: DataSource | Dataset, **given: Any) -> OptimizationJob:
        """The same, without waiting for its end."""
        from .optimizing import start

        return await start(self, module, trainset, **given)

    def optimization(self, session: str) -> OptimizationJob:
        """A job started anywhere."""
        from .optimizing import OptimizationJob

        return OptimizationJob(self, self.session(session))

    # --- what would run, and why ---

    async def explain(
        self,
        what: Pipeline,
        *,
        constants: Mapping[str, Any] | None = None,
        implementation: Implementation = "auto",
        pool: str | None = None,
    ) -> Explanation:
        """Which implementation, handler and pool each step of a definition gets, or an operation with these constants,
        and why. Nothing is run."""
        from .explaining import explain_call, explain_pipeline

        if isinstance(what, PipelineDefinition):
            return await explain_pipeline(self, what)
        return await explain_call(self, what, constants or {}, implementation, pool)

    # --- pipelines and pools ---

    async def put_pipeline(self, definition: PipelineDefinition) -> PipelineView:
        """Store a definition under its name; the newest version is what new runs of that name use."""
        return await self.ask("pipeline", "put", PipelinePut(definition=definition), PipelineView)

    async def get_pipeline(self, name: str, version: str | None = None) -> PipelineView:
        return await self.ask("pipeline", "get", PipelineRequest(name=name, version=version), PipelineView)

    async def pipelines(self) -> PipelineList:
        return await self.ask("pipeline", "list", None, PipelineList)

    async def delete_pipeline(self, name: str, version: str | None = None) -> None:
        """The name with all its versions, or one version that is not the newest."""
        await self.ask("pipeline", "delete", PipelineRequest(name=name, version=version), PipelineView)

    async def put_schedule(self, definition: ScheduleDefinition) -> ScheduleView:
        """Start a pipeline by itself at set times. Each tick is one session, ``<name>-<tick in UTC>``."""
        return await self.ask("schedule", "put", SchedulePut(definition=definition), ScheduleView)

    async def get_schedule(self, name: str) -> ScheduleView:
        return await self.ask("schedule", "get", ScheduleRequest(name=name), ScheduleView)

    async def schedules(self) -> ScheduleList:
        return await self.ask("schedule", "list", None, ScheduleList)

    async def pause_schedule(self, name: str) -> ScheduleView:
        return await self.ask("schedule", "pause", ScheduleRequest(name=name), ScheduleView)

    async def resume_schedule(self, name: str) -> ScheduleView:
        return await self.ask("schedule", "resume", ScheduleRequest(name=name), ScheduleView)

    async def delete_schedule(self, name: str) -> None:
        """Sessions that it started go on."""
        await self.ask("schedule", "delete", ScheduleRequest(name=name), ScheduleView)

    async def put_limit(self, definition: LimitDefinition) -> LimitView:
        """Limit how many steps that name it run at once, or start in a second, over all routers and pools."""
        return await self.ask("limit", "put", LimitPut(definition=definition), LimitView)

    async def limits(self) -> LimitList:
        return await self.ask("limit", "list", None, LimitList)

    async def delete_limit(self, name: str) -> None:
        """What waits for a permit of it is sent."""
        await self.ask("limit", "delete", LimitRequest(name=name), LimitView)

    async def dead_letters(self, pool: str | None = None, *, after: int = 0, limit: int = 100) -> DeadList:
        """Messages nobody could do anything with, oldest first, each with the reason."""
        return await self.ask("letters", "list", DeadListRequest(pool=pool, after=after, limit=limit), DeadList)

    async def dead_letter(self, sequence: int) -> DeadLetter:
        """One of them, with the original message."""
        return await self.ask("letters", "show", DeadRequest(sequence=sequence), DeadLetter)

    async def retry_dead_letter(self, sequence: int) -> Session:
        """Its session goes on from what failed, as a new session; the letter is dropped."""
        return Session(self, (await self.ask("letters", "retry", DeadRequest(sequence=sequence), Submitted)).session)

    async def drop_dead_letter(self, sequence: int) -> None:
        await self.ask("letters", "drop", DeadRequest(sequence=sequence), DeadLetter)

    async def pools(self) -> PoolList:
        """Every pool's workers, slots and queue, live."""
        return await self.ask("pools", "list", None, PoolList)

    async def ask(self, family: str, verb: str, request: Any, reply: type[T], *, timeout_s: float = 10.0) -> T:
        """One request to the router's ``dspex.v1.<family>.<verb>``."""
        return await self._ask(f"{subjects.ROOT}.{family}.{verb}", request, reply, timeout_s)

    async def _ask(self, subject: str, request: Any, reply: type[T], timeout_s: float = 10.0) -> T:
        data = b"" if request is None else encode(request)
        try:
            answer = await self._claims.request(subject, data, timeout_s=timeout_s)
        except Unavailable as error:
            if error.code != "no_responders":
                raise
            raise NoRouter("no router answers on this server; start one: dspex up, or dspex router") from error
        _raise_error(answer)
        return decode(reply, answer.data, subject=subject)


def _signed(form: SignatureForm) -> dict[str, Any]:
    if isinstance(form, str):
        return {"signature": form}
    from dspex_bus.signatures import signature_of

    signature = signature_of(form)
    constants = {"signature": signature.text}
    if signature.instructions:
        constants["instructions"] = signature.instructions
    return constants


def _request(
    pipeline: Pipeline,
    input: Mapping[str, Any] | None,
    timeout_s: float | None,
    session: str | None,
    durability: str,
    options: RunOptions,
) -> tuple[str, RunRequest]:
    inline = isinstance(pipeline, PipelineDefinition)
    request = RunRequest(
        input=dict(input or {}),
        definition=pipeline if isinstance(pipeline, PipelineDefinition) else None,
        session=session,
        timeout_s=timeout_s,
        durability="none" if durability == "none" else "stored",
        **options,
    )
    return (subjects.INLINE if inline else str(pipeline)), request


def _raise_error(answer: Message) -> None:
    if answer.headers and "Nats-Service-Error-Code" in answer.headers:
        raise error_from(decode(ErrorInfo, answer.data, subject=answer.subject))


def raise_unless_succeeded(result: RunResult) -> None:
    """Raises RunFailed saying why."""
    if result.status == "succeeded":
        return
    error = result.error or error_info(RunFailed(f"the run ended {result.status}"))
    raise RunFailed(
        error.message, code=error.code, details={"session": result.session, "status": result.status, **error.details}
    )
