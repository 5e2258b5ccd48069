"""What ``doctor`` prints for a person."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from dspex.cli import cli, doctor


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Square brackets are no markup there: a person copies the line."""
    monkeypatch.setattr(doctor, "machine", lambda: [doctor._package("dspy", "no_such_module")])
    done = CliRunner().invoke(cli, ["doctor", "--server", "nats://127.0.0.1:1", "--timeout", "0.5"])
    assert "pip install 'dspex[dspy]'" in done.output
