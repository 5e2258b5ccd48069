"""What a pool of optimizers offers."""

from __future__ import annotations

from typing import Any

from ...handlers import Handlers, Step
from ...optimizing.job import HANDLER, Job
from ..programs import Programs
from .running import Running


def optimizing(programs: Programs) -> Handlers:
    handlers = Handlers()
    programs.models.keep_for(handlers)

    @handlers.handler(HANDLER, implementation="dspy", resumes=True)
    async def optimize(job: Job, step: Step) -> dict[str, Any]:
        """Make a better program with one of DSPy's optimizers, and keep it in the registry."""
        return await Running(programs, job, step).run()

    return handlers
