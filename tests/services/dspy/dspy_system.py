"""The system under test, as the tests of this folder see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from anyio.abc import TaskGroup

import dspex
from dspex_bus import NatsBus
from dspex_bus.errors import DspexError
from dspex_services.dspy.programs import Programs
from dspex_services.handlers import Handlers
from dspex_services.worker import Worker, WorkerConfig


@dataclass
class System:
    """``programs`` are the DSPy worker's own, for tests that look inside."""

    url: str
    client: dspex.Client
    programs: Programs
    group: TaskGroup
    closing: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    async def serve(self, handlers: Handlers, pool: str, **config: Any) -> Worker:
        """Another pool of this system."""
        bus = NatsBus(self.url, name=pool)
        await bus.__aenter__()
        self.closing.append(lambda: bus.__aexit__(None, None, None))
        worker = Worker(bus, handlers, WorkerConfig(pool=pool, drain_s=1, **config))
        await self.group.start(worker.run)
        return worker

    async def step(self, module: str, inputs: dict[str, Any], /, **constants: Any) -> dict[str, Any]:
        """One durable step of that module."""
        pipeline = dspex.pipeline([dspex.module(module, **constants)], name="one")
        result = await self.client.run(pipeline, inputs, timeout_s=30)
        assert result.output is not None
        return result.output

    async def refused(self, module: str, inputs: dict[str, Any], /, **constants: Any) -> DspexError:
        """Why such a step fails."""
        try:
            output = await self.step(module, inputs, **constants)
        except DspexError as error:
            return error
        raise AssertionError(f"it was not refused but answered {output}")
