from __future__ import annotations

import pytest
from native_rig import make_step

from dspex_services.handlers import Step


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def step() -> Step:
    return make_step()
