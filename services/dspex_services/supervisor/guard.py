"""A small process that outlives the supervisor by a moment, to kill what a killed supervisor's workers had started.

The kernel kills the workers themselves (see the worker's ``_die_with``); it does not know their children.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import sys
from types import TracebackType
from typing import Self

from . import leftovers

_ENDS_S = 5.0


class Guard:
    """``with Guard() as guard``: told of every worker's process group. ``mark`` begins the marks of all of them."""

    def __init__(self) -> None:
        self.mark = f"{os.getpid()}-{secrets.token_hex(6)}."

    def __enter__(self) -> Self:
        # In a session of its own: a terminal's Ctrl-C is not for it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", leftovers.__file__, self.mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def born(self, group: int) -> None:
        self._tell(f"+{group}\n")

    def gone(self, group: int) -> None:
        self._tell(f"-{group}\n")

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # somebody has killed it: the workers are still killed by the kernel
            self._process.stdin.write(line)
