"""Running the command as a user does, and what a process leaves behind."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from dspex.cli import main

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 50


def offline_environment(**more: str) -> dict[str, str]:
    """The environment without anything that names a model: tests never leave this machine."""
    named = ("DSPEX_", "OPENAI_", "ANTHROPIC_", "BRAVE_", "GOOGLE_", "COLUMNS", "FORCE_COLOR")
    return {**{key: value for key, value in os.environ.items() if not key.startswith(named)}, **more}


def dspex(
    *arguments: str, environment: Mapping[str, str] | None = None, cwd: Path = ROOT, **options: Any
) -> subprocess.CompletedProcess[str]:
    """One ``dspex`` command, run to its end."""
    return subprocess.run(
        [sys.executable, "-m", "dspex", *arguments],
        env=dict(environment) if environment is not None else offline_environment(),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        stdin=options.pop("stdin", subprocess.DEVNULL) if "input" not in options else None,
        **options,
    )


def dspex_here(*arguments: str, environment: Mapping[str, str], input: str = "") -> subprocess.CompletedProcess[str]:
    """The same in this process, for tests of what a command says: it saves starting Python."""
    stdout, stderr, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment, clear=True),
        mock.patch.object(sys, "argv", ["dspex", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO(input)),
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return subprocess.CompletedProcess(arguments, code, stdout.getvalue(), stderr.getvalue())


def descendants(pid: int) -> set[int]:
    """The process's children, theirs, and so on."""
    found: set[int] = set()
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        children = (thread / "children").read_text().split()
        for child in map(int, children):
            found |= {child, *descendants(child)}
    return found


def await_gone(pids: set[int], timeout_s: float = 10) -> None:
    """Fails when one of them is still there after the time."""
    until = time.monotonic() + timeout_s
    while alive := {pid for pid in pids if Path(f"/proc/{pid}").exists()}:
        assert time.monotonic() < until, f"left behind: {alive}"
        time.sleep(0.02)
