"""A whole system in one process: server, router, a DSPy pool and a pool of handlers, with the offline LM behind it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import anyio
import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
pytest.importorskip("dspy")

from dspy_system import System

import dspex
from dspex_bus import EmbeddedServer, NatsBus
from dspex_router import Router
from dspex_services.dspy.model import Models
from dspex_services.dspy.pool import dspy_handlers, user_module
from dspex_services.dspy.programs import Programs
from dspex_services.offline_lm import MODEL, OfflineLM


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def offline_url() -> AsyncIterator[str]:
    async with OfflineLM() as lm:
        yield lm.base_url


@pytest.fixture
def model_environment(offline_url: str) -> dict[str, str]:
    return {"DSPEX_MODEL": f"openai/{MODEL}", "DSPEX_BASE_URL": offline_url}


@pytest.fixture
def modules() -> list[str]:
    """Modules and metrics that the pool lists; a test module overrides this."""
    return []


@pytest.fixture
async def system(model_environment: dict[str, str], modules: list[str]) -> AsyncIterator[System]:
    async with EmbeddedServer() as server:
        async with NatsBus(server.url, name="router") as bus, anyio.create_task_group() as group:
            await group.start(Router(bus).run)
            async with dspex.connect(server.url) as client:
                programs = Programs(Models(model_environment))
                handlers = dspy_handlers(programs)
                for path in modules:
                    handlers.include(user_module(programs, path))
                found = System(server.url, client, programs, group)
                await found.serve(handlers, "dspy")
                yield found
                group.cancel_scope.cancel()
        for close in found.closing:
            await close()
