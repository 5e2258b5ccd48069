"""One offline LM for a module's tests, on a thread of its own so that blocking clients can call it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anyio.from_thread import start_blocking_portal

from dspex_services.offline_lm import OfflineLM


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def offline_url() -> Iterator[str]:
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(OfflineLM()) as server:
        yield server.base_url
