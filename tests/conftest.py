"""What all tests share: searches for examples take as long as a busy machine makes them take, and reports can be sent
from the process that ran a test to the one that prints them."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dspex", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("dspex")


@pytest.fixture(autouse=True)
def nothing_is_left_handled() -> Iterator[None]:
    """No coroutine, compiled or not, leaves its exception behind as everybody's."""
    yield
    assert sys.exc_info()[1] is None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was logged may hold half a character, which cannot be sent."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
