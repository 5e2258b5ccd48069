"""The types of the blocking client: written by docs/generate.py."""

# ruff: noqa
# fmt: off
# mypy: disable-error-code="override"

import builtins
from collections.abc import Awaitable
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dspex._asking import T
from dspex._feed import TokenEvent
from dspex._runs import Pipeline
from dspex.evaluating import Evaluation
from dspex.evaluating import Target
from dspex.explaining import Explanation
from dspex.optimizing import Optimized
from dspex.options import RunOptions
from dspex.predictions import Prediction
from dspex.signing import SignatureForm
from dspex_bus.signatures import Signature
from dspex_bus.wire import Budget
from dspex_bus.wire import DeadLetter
from dspex_bus.wire import DeadList
from dspex_bus.wire import EventPage
from dspex_bus.wire import Implementation
from dspex_bus.wire import LimitDefinition
from dspex_bus.wire import LimitList
from dspex_bus.wire import LimitView
from dspex_bus.wire import PipelineDefinition
from dspex_bus.wire import PipelineList
from dspex_bus.wire import PipelineView
from dspex_bus.wire import PoolList
from dspex_bus.wire import RunResult
from dspex_bus.wire import ScheduleDefinition
from dspex_bus.wire import ScheduleList
from dspex_bus.wire import ScheduleView
from dspex_bus.wire import SessionList
from dspex_bus.wire import SessionView
from dspex_bus.wire import StoredEvent
from dspex_bus.wire import Usage
from dspex_bus.wire.tenant import Per
from dspex_services.budgets import Amount
from dspex_services.evaluation.datasets import DataSource
from dspex_services.evaluation.datasets import Dataset
from dspex_services.optimizing import JobProgress
from dspex_services.optimizing import JobRecord
from dspex_services.programs.types import Origin
from dspex_services.programs.types import Program
from dspex_services.programs.types import ProgramVersion
from dspex_services.templates.types import StoredTemplate
from dspex_services.templates.types import TemplateVersion
from dspex_services.tenants.holds import Ask
from dspex_services.tenants.store import Standing
from dspex_services.threads.types import Thread
from dspex_services.threads.types import ThreadSummary
from dspex_services.threads.types import Turn
from typing import Any
from typing import Unpack

class BlockingClient:
    @property
    def programs(self) -> BlockingProgramStore:
        """Stored programs: versions, tags, promotion."""
    @property
    def templates(self) -> BlockingTemplateStore:
        """Stored templates and their versions."""
    @property
    def tenants(self) -> BlockingTenantStore:
        """What tenants may use together, and what they have used."""
    @property
    def threads(self) -> BlockingThreadStore:
        """Conversations that runs of a ``thread`` go on with."""
    def evaluate(self, target: Target, dataset: DataSource | Dataset, **options: Any) -> Evaluation:
        """How a program, a step or a pipeline does on a data set: see :func:`dspex.evaluating.evaluate`."""
    def optimize(self, module: Any, trainset: DataSource | Dataset, **given: Any) -> Optimized:
        """A better program by one of DSPy's optimizers, as a durable job: see :func:`dspex.optimizing.start` for what
        it takes, and ``on_progress``."""
    def start_optimizing(self, module: Any, trainset: DataSource | Dataset, **given: Any) -> BlockingOptimizationJob:
        """The same, without waiting for its end."""
    def optimization(self, session: str) -> BlockingOptimizationJob:
        """A job started anywhere."""
    def explain(self, what: Pipeline, *, constants: Mapping[str, Any] | None=None, implementation: Implementation='auto', pool: str | None=None) -> Explanation:
        """Which implementation, handler and pool each step of a definition gets, or an operation with these constants,
        and why. Nothing is run."""
    def signature(self, spec: SignatureForm, instructions: str | None=None) -> Signature:
        """The signature that ``spec`` spells out, as :func:`dspex.signature`. Read here: it costs microseconds and no
        message."""
    def compile_signature(self, spec: SignatureForm, **options: Any) -> Prediction:
        """The signature's fields, JSON Schemas and digest, as any client in any language gets them."""
    def predict(self, signature: SignatureForm, inputs: Mapping[str, Any] | None=None, *, implementation: Implementation='auto', config: Mapping[str, Any] | None=None, timeout_s: float | None=None, **fields: Any) -> Prediction:
        """The signature's outputs for ``inputs`` (a mapping, or keywords). ``config``: model, temperature,
        max_tokens, demos."""
    def attach(self, data: bytes, media_type: str | None=None) -> builtins.dict[str, str]:
        """Keep a picture, a recording or a file on the bus: give the reference as the input of any number of runs. It
        stays until it is deleted."""
    def lm(self, prompt: str | Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]]=..., config: Mapping[str, Any] | None=None, timeout_s: float | None=None, **limits: Any) -> Prediction:
        """A direct call of the model, without a signature: a text or messages in; ``text``, ``tool_calls``,
        ``message``, ``finish_reason`` and ``usage`` out. ``config``: model, system, temperature, response_schema…"""
    def predictor(self, kind: str, signature: SignatureForm, *, implementation: Implementation='auto', **config: Any) -> BlockingPredictor:
        """An operation bound to a signature. ``kind``: ``predict``, ``chain_of_thought``, ``react``, or any
        handler's name."""
    def chain_of_thought(self, signature: SignatureForm, **config: Any) -> BlockingPredictor:
        """A predictor that reasons before it answers; its outputs have a ``reasoning`` field."""
    def react(self, signature: SignatureForm, tools: Sequence[Any], **config: Any) -> BlockingPredictor:
        """A predictor that uses tools, which are handlers on the bus: their names, or mappings with ``name``,
        ``handler`` and the constants ``with``."""
    def call(self, operation: str, *, inputs: Mapping[str, Any] | None=None, constants: Mapping[str, Any] | None=None, implementation: Implementation='auto', pool: str | None=None, timeout_s: float | None=None, budget: Budget | None=None, tenant: str='') -> Prediction:
        """One operation, or any handler by name. The execution router picks the implementation; the answer says
        which."""
    def run(self, pipeline: Pipeline, input: Mapping[str, Any] | None=None, *, timeout_s: float=600.0, session: str | None=None, durability: str='stored', on_token: Callable[[TokenEvent], object] | None=None, **options: Unpack[RunOptions]) -> RunResult:
        """Run to the end and answer with the result. Raises RunFailed (its ``code`` says why, ``details`` has the
        session) when the run ended without success. ``durability="none"`` keeps it out of every stream: faster, not
        recoverable. ``budget`` is what its LM calls may use, in place of the pipeline's; ``tenant`` is who it is
        for; ``thread`` names the conversation that steps with ``remember`` go on with. ``on_token`` is called with what
        the steps say of their models' tokens, as it comes."""
    def submit(self, pipeline: Pipeline, input: Mapping[str, Any] | None=None, *, timeout_s: float | None=None, session: str | None=None, **options: Unpack[RunOptions]) -> BlockingSession:
        """Start a run and come back at once. When this returns, the session is stored and will end, whatever is
        killed. With ``stream`` its steps say the model's tokens: see :meth:`stream`, and :meth:`Session.tokens`."""
    def stream(self, pipeline: Pipeline, input: Mapping[str, Any] | None=None, *, timeout_s: float | None=None, session: str | None=None, tokens: bool=False, **options: Unpack[RunOptions]) -> Iterator[StoredEvent | TokenEvent]:
        """Start a run and yield its events as they are stored, up to and with the end; with ``tokens`` also what its
        steps say of the model's tokens, from the first."""
    def session(self, id: str) -> BlockingSession:
        """A handle on a session started anywhere."""
    def sessions(self, *, ended: bool=True, limit: int=50, before: int=0) -> SessionList:
        """The newest, at most ``limit`` (1,000), fewer only where there are no more; with the answer's ``next`` as
        ``before`` the next older ones. It is 0 at the end."""
    def put_pipeline(self, definition: PipelineDefinition) -> PipelineView:
        """Store a definition under its name; the newest version is what new runs of that name use."""
    def get_pipeline(self, name: str, version: str | None=None) -> PipelineView: ...
    def pipelines(self) -> PipelineList: ...
    def delete_pipeline(self, name: str, version: str | None=None) -> None:
        """The name with all its versions, or one version that is not the newest."""
    def put_schedule(self, definition: ScheduleDefinition) -> ScheduleView:
        """Start a pipeline by itself at set times. Each tick is one session, ``<name>-<tick in UTC>``."""
    def get_schedule(self, name: str) -> ScheduleView: ...
    def schedules(self) -> ScheduleList: ...
    def pause_schedule(self, name: str) -> ScheduleView: ...
    def resume_schedule(self, name: str) -> ScheduleView: ...
    def delete_schedule(self, name: str) -> None:
        """Sessions that it started go on."""
    def put_limit(self, definition: LimitDefinition) -> LimitView:
        """Limit how many steps that name it run at once, or start in a second, over all routers and pools."""
    def limits(self) -> LimitList: ...
    def delete_limit(self, name: str) -> None:
        """What waits for a permit of it is sent."""
    def dead_letters(self, pool: str | None=None, *, after: int=0, limit: int=100) -> DeadList:
        """Messages nobody could do anything with, oldest first, each with the reason."""
    def dead_letter(self, sequence: int) -> DeadLetter:
        """One of them, with the original message."""
    def retry_dead_letter(self, sequence: int) -> BlockingSession:
        """Its session goes on from what failed, as a new session; the letter is dropped."""
    def drop_dead_letter(self, sequence: int) -> None: ...
    def pools(self) -> PoolList:
        """Every pool's workers, slots and queue, live."""
    bus: Any
    def ask(self, family: str, verb: str, request: Any, reply: builtins.type[T], *, timeout_s: float=10.0) -> T:
        """One request to the router's ``dspex.v1.<family>.<verb>``. What is safe to ask again is, within ``timeout_s``,
        where the system is not there just then, and has been before."""

class BlockingSession:
    id: str
    def view(self) -> SessionView:
        """Status, plan and a report for every step, as they are now."""
    def result(self, *, timeout_s: float=3600.0) -> RunResult:
        """How the session ended, waiting for it, through lost connections and restarted routers too. Raises
        DeadlineExceeded after ``timeout_s``; does not raise for a session that failed: look at ``status``."""
    def cancel(self, reason: str='') -> SessionView:
        """End it: queued steps never start, running ones are told. When this returns it has ended, and nothing of it is
        accepted any more. Safe to repeat."""
    def pause(self, reason: str='') -> SessionView:
        """Let what runs end and start nothing more, until :meth:`resume`. The run's deadline stays as it is."""
    def resume(self) -> SessionView: ...
    def signal(self, name: str, payload: Mapping[str, Any] | None=None, *, id: str | None=None) -> bool:
        """Send a signal; a wait of that name takes it, now or later. ``id`` is your own: the same one twice is one
        signal, and False says that it was there before."""
    def retry(self, *, timeout_s: float | None=None, id: str | None=None) -> BlockingSession:
        """A new session that goes on from what failed in this one, its results kept, and those of the pipelines within
        that had begun."""
    def fork(self, node: str, input: Mapping[str, Any] | None=None, *, timeout_s: float | None=None, id: str | None=None) -> BlockingSession:
        """A new session that runs again from the step ``node`` (its place, as :meth:`view` tells it, or its name
        where no other has it), with ``input`` over this one's and what was done before it kept."""
    def page(self, after: int=0, limit: int=256, *, snapshots: bool=False) -> EventPage:
        """Stored events with a sequence above ``after``, and with ``snapshots`` what stands for those that are gone."""
    def events(self, *, after: int=0) -> Iterator[StoredEvent]:
        """Every event with a sequence above ``after``, those stored already and then live, up to and with the end.

        Nothing is skipped or repeated across reconnects. To resume later, pass the last ``sequence`` seen; steps that
        travelled as one task share theirs. Raises
        Unavailable where nobody answers at the start, or for a minute later on.
        """
    def tokens(self) -> Iterator[TokenEvent]:
        """The model's tokens as they come, of every step that says them, until the session has ended. They are not
        stored: what was said before this is called is gone. The run, or its steps, must have been asked to ``stream``.

        Each has ``node``, ``attempt`` and ``message``: TokensStarted first, then TokenPiece and TokenStatus,
        TokensEnded last, counted from 0 by ``sequence``. Raises SlowConsumer when thousands wait to be taken.
        """
    def follow(self, *, after: int=0, tokens: bool=True, begin: Callable[[], Awaitable[object]] | None=None) -> Iterator[StoredEvent | TokenEvent]:
        """Events and tokens together, in the order in which they come. ``begin`` is called once nothing can be missed
        any more: to submit the run, for instance."""

class BlockingPredictor:
    operation: str
    constants: builtins.dict[str, Any]
    implementation: Implementation
    def __call__(self, **inputs: Any) -> Prediction: ...

class BlockingOptimizationJob:
    session: BlockingSession
    def progress(self) -> Iterator[JobProgress]:
        """How far it is, as its worker tells, until it ends. What comes faster than it is read is left out."""
    def record(self) -> JobRecord | None:
        """What it has spent and the best it has found, also of one that was cancelled or lost."""
    def cancel(self, reason: str='') -> None:
        """End it. The best program so far is kept under its name, if there is one."""
    def result(self, *, timeout_s: float=...) -> Optimized:
        """The program it made. Raises RunFailed where it made none."""

class BlockingProgramStore:
    def list(self) -> builtins.list[Program]:
        """Every program, by name."""
    def get(self, name: str) -> Program:
        """Raises NotFound (``unknown_program``)."""
    def version(self, wanted: str) -> ProgramVersion:
        """The version that a reference means now. Raises NotFound."""
    def state(self, digest: str) -> builtins.dict[str, Any]:
        """A version's state, its digest checked. Raises NotFound."""
    def keep(self, state: Mapping[str, Any]) -> str:
        """Store a state alone, under no name; its digest."""
    def put(self, name: str, state: Mapping[str, Any], origin: Origin | None=None, *, tag: str | None=None) -> ProgramVersion:
        """A new version of ``name``; where the newest one has the same content and origin, that one again."""
    def promote(self, wanted: str, tag: str=...) -> ProgramVersion:
        """Let ``tag`` mean that version from now on."""
    def rollback(self, name: str, tag: str=...) -> ProgramVersion:
        """Let ``tag`` mean what it meant before its last promotion. Raises NotFound where there was nothing before."""
    def delete(self, name: str) -> None:
        """Forget a program's names and versions; what runs by a digest still finds its state."""

class BlockingTemplateStore:
    def list(self) -> builtins.list[StoredTemplate]:
        """Every template, by name."""
    def get(self, name: str) -> StoredTemplate:
        """Raises UnknownTemplate."""
    def version(self, wanted: str) -> TemplateVersion:
        """The version that a reference means now. Raises UnknownTemplate saying which there are."""
    def content(self, name: str, digest: str) -> str:
        """A version's source. Raises UnknownTemplate; InvalidRequest where it is damaged."""
    def put(self, name: str, source: str, *, note: str='') -> TemplateVersion:
        """A new version of ``name``; where the newest one has the same source, that one again. Raises TemplateError,
        with line and column, for a source that does not compile."""
    def delete(self, wanted: str) -> tuple[TemplateVersion, ...]:
        """Forget a template, or with ``@`` one of its versions; those that are gone. Raises UnknownTemplate."""

class BlockingTenantStore:
    def get(self, tenant: str) -> Standing: ...
    def list(self) -> builtins.list[Standing]:
        """Those with a limit, and those who have used something."""
    def set_limit(self, tenant: str, budget: Budget, per: Per='total') -> None: ...
    def clear_limit(self, tenant: str) -> None: ...
    def reset(self, tenant: str) -> None:
        """Forget what it has used."""
    def add(self, tenant: str, usage: Usage) -> Standing:
        """Count it. Raises Conflict where others count so fast that there is no coming in between."""
    def turn(self, tenant: str, usage: Usage | None, who: str='', ask: Callable[[], Ask]=...) -> tuple[Standing, Amount]:
        """Count what was used, and hold what ``who`` asks for, as far as it may: how the tenant stands then, and how
        much is held. Raises Conflict as ``add`` does."""

class BlockingThreadStore:
    def get(self, name: str, *, tenant: str='', of_session: bool=False) -> Thread:
        """A conversation by name, or a session's own. Raises NotFound (``unknown_thread``)."""
    def list(self, *, tenant: str | None=None, sessions: bool=False) -> builtins.list[ThreadSummary]:
        """Named threads, of all tenants or of one, and with ``sessions`` the sessions' own; last changed first."""
    def clear(self, name: str, *, tenant: str='', of_session: bool=False) -> int:
        """Forget a conversation; how many turns it had."""
    def read(self, key: str) -> Thread:
        """By the key that a task names; empty where there is none yet."""
    def add(self, key: str, turn: Turn) -> None:
        """Each step's turn once: a step that is run again says it anew in the same place."""
