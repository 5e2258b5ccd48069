"""A job: which module is to be made better, on what, by which optimizer, and what that may cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dspex_bus.errors import InvalidRequest
from dspex_bus.names import token
from dspex_bus.wire import PipelineDefinition, RetryPolicy, StepDefinition

from ..evaluation.metrics import MetricSpec
from .rules import Sizes, check

POOL = "optimize"
HANDLER = "optimize"
OPTIMIZE_NODE = "0"

KEEP_S = 7 * 86_400.0
LONGEST_S = 30 * 86_400.0
_MARGIN_S = 600.0
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """When to stop, with the best program so far: after that many paid LM calls, tokens in and out, ``usd`` of the
    operator's prices, or ``seconds`` since the job's first start. None sets no limit."""

    calls: Annotated[int, Meta(ge=1)] | None = None
    tokens: Annotated[int, Meta(ge=1)] | None = None
    usd: Annotated[float, Meta(gt=0)] | None = None
    seconds: Annotated[float, Meta(gt=0)] | None = None


class ModuleSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``module`` is ``dspy.Predict``, ``dspy.ChainOfThought``, or the import path of one that the pools list.
    ``digest`` is a stored state to start from."""

    module: str
    signature: str | None = None
    instructions: str | None = None
    options: dict[str, Any] = {}
    digest: str = ""

    @property
    def members(self) -> int:
        """Of how many programs it is made."""
        return len(self.options.get("members", ()))

    @property
    def name(self) -> str:
        return self.module.rpartition(":")[2].rpartition(".")[2]


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The constants of the step ``optimize``.

    ``trainset`` and ``valset`` are digests of stored data sets; ``inputs`` are the fields of an example that are asked.
    ``options`` are the optimizer's own, of its constructor and of ``compile`` together. ``program`` is the name that
    the result is kept under, ``promote`` a tag that it then gets. ``model`` answers the program, ``prompt_model``
    writes for the optimizer. ``threads`` bounds examples in work at once; None: as many as the pool of workers has
    slots. ``keep_s`` is how long LM replies are kept for a restart."""

    module: ModuleSpec
    trainset: str
    inputs: tuple[str, ...]
    metric: MetricSpec
    optimizer: str = "miprov2"
    options: dict[str, Any] = {}
    valset: str = ""
    teacher: ModuleSpec | None = None
    seed: int | None = None
    program: str = ""
    promote: str | None = None
    model: str | None = None
    prompt_model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    adapter: str = "chat"
    budget: Budget = Budget()
    threads: Annotated[int, Meta(ge=1, le=256)] | None = None
    pool: str = "dspy"
    keep_s: Annotated[float, Meta(ge=60)] = KEEP_S

    @property
    def name(self) -> str:
        """What the result is called."""
        return self.program or _NOT_IN_NAMES.sub("-", f"{self.module.name}-{self.optimizer}")[:64]

    @property
    def timeout_s(self) -> float:
        """How long the step may take: longer than its budget, which stops it in good order."""
        return min(LONGEST_S, self.budget.seconds + _MARGIN_S) if self.budget.seconds else LONGEST_S


def read_job(document: Mapping[str, Any]) -> Job:
    """The job in plain data, its options checked. Raises InvalidRequest saying what to change."""
    try:
        job = msgspec.convert(dict(document), Job)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the job cannot be read: {error}", code="invalid_job") from error
    check(job.optimizer, job.options, Sizes(members=job.module.members))
    return job


def check_names(job: Job) -> None:
    """What the result is to be called can be a name, which would otherwise be found out when all is paid. Raises
    InvalidRequest (``invalid_name``)."""
    token(job.name, "program")
    if job.promote is not None:
        token(job.promote, "program tag")


def job_definition(job: Job) -> PipelineDefinition:
    """The job as a pipeline of one step. Attempts that fail for want of a model or a worker are made again; what was
    paid for is not paid for again."""
    step = StepDefinition(
        module=HANDLER,
        name="optimize",
        pool=POOL,
        with_=msgspec.to_builtins(job),
        timeout_s=job.timeout_s,
        retry=RetryPolicy(attempts=5, initial_s=5, factor=3, max_s=600),
    )
    return PipelineDefinition(name=f"optimize-{job.name}"[:64], steps=(step,), timeout_s=job.timeout_s + _MARGIN_S)
