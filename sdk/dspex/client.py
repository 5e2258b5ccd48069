"""The client: what a program asks of a running dspex system."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dspex_bus.wire import Implementation, PipelineDefinition

from ._managing import Managing
from ._operations import Operations
from ._runs import Pipeline, Runs

if TYPE_CHECKING:
    from dspex_services.evaluation.datasets import Dataset, DataSource
    from dspex_services.programs import ProgramStore
    from dspex_services.templates import TemplateStore
    from dspex_services.tenants import TenantStore
    from dspex_services.threads import ThreadStore

    from .evaluating import Evaluation, Target
    from .explaining import Explanation
    from .optimizing import OptimizationJob, Optimized


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


class Client(Operations, Runs, Managing):
    """Operations, runs, sessions, pipelines and pools, over one connection. Safe to use from many tasks at once."""

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

    async def evaluate(self, target: Target, dataset: DataSource | Dataset, **options: Any) -> Evaluation:
        """How a program, a step or a pipeline does on a data set: see :func:`dspex.evaluating.evaluate`."""
        from .evaluating import evaluate

        return await evaluate(self, target, dataset, **options)

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
