"""The code on the pages of the documentation, run as it is printed; tests/services/test_pages.py checks the rest."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import dspex

from .conftest import RunningSystem
from .processes import ROOT

pytestmark = pytest.mark.anyio

_PYTHON = re.compile(r"```python\n(.*?)```", re.DOTALL)
_PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415478da63606060000000040001f61738550000000049454e44ae426082"
)


def codes(page: str) -> list[str]:
    return _PYTHON.findall(ROOT.joinpath(page).read_text("utf-8"))


def run(code: str, running: RunningSystem, folder: Path) -> str:
    """What a program of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def within(code: str, *, imports: str = "") -> str:
    """The body of a client's program."""
    body = "\n".join(f"        {line}" for line in code.splitlines())
    return f"""
import asyncio
import dspex
{imports}

async def main():
    async with dspex.connect() as client:
{body}

asyncio.run(main())
"""


def test_a_picture_by_reference(running: RunningSystem, tmp_path: Path) -> None:
    tmp_path.joinpath("plan.png").write_bytes(_PICTURE)
    code = next(code for code in codes("docs/dspy.md") if "attach" in code)
    printed = run(within(code + "print(seen)", imports="from pathlib import Path"), running, tmp_path)
    assert "implementation='dspy'" in printed


def test_tokens_as_they_come(running: RunningSystem, tmp_path: Path) -> None:
    page = ROOT.joinpath("docs/dspy.md").read_text("utf-8")
    ask = next(found[1] for found in re.finditer(r"```yaml\n(name: ask\n.*?)```", page, re.DOTALL))
    code = next(code for code in codes("docs/dspy.md") if "tokens=True" in code)
    stored = f"await client.put_pipeline(dspex.parse_pipeline({ask!r}))\n"
    assert "answer" in run(within(stored + code), running, tmp_path)


def test_a_handler_tested_in_memory(running: RunningSystem, tmp_path: Path) -> None:
    (code,) = codes("docs/testing.md")
    tmp_path.joinpath("test_it.py").write_text(code)
    done = "import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'test_it.py']))"
    assert "passed" in run(done, running, tmp_path)


def test_a_session_of_a_program(running: RunningSystem, tmp_path: Path) -> None:
    (code,) = codes("docs/pipelines.md")
    assert run(within(code), running, tmp_path) == "{'approved': True}\n"


async def test_a_pipeline_with_joins_and_a_condition(client: dspex.Client) -> None:
    (page,) = re.findall(r"```yaml\n(.*?)```", ROOT.joinpath("docs/pipelines.md").read_text("utf-8"), re.DOTALL)
    result = await client.run(dspex.parse_pipeline(page), {"question": "What is 17 plus 25?"})
    assert result.output == {"text": "42"}
