"""The table in the docs: it leaves nothing of DSPy out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dspy
import pytest

from dspex_services.dspy.model import Models
from dspex_services.dspy.programs import Programs
from dspex_services.dspy.support import APART, rows, table
from dspex_services.errors import InvalidInput
from dspex_services.programs import Origin

ROOT = Path(__file__).parents[3]


def test_every_public_module_of_dspy_has_a_row() -> None:
    named = {row.name for row in rows()}
    public = {name for name, value in vars(dspy).items() if isinstance(value, type) and issubclass(value, dspy.Module)}
    assert public - {"Module"} <= named
    assert all(row.step for row in rows())


def test_what_is_no_step_is_told_why() -> None:
    assert {row.name for row in rows() if not row.reads} == set(APART)
    assert "`module: dspy.RLM`" in table()


def test_the_page_is_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "dspy.md is not" not in done.stdout, done.stdout


def test_no_program_is_made_of_what_needs_its_step() -> None:
    with pytest.raises(InvalidInput, match=r"cannot make the module 'dspy\.RAG'") as refused:
        Programs(Models({})).made(Origin(module="dspy.RAG", signature="context, question -> answer"))
    assert refused.value.code == "unknown_module"
