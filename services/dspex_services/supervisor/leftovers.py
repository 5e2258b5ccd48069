"""What a worker's handlers started, killed when the worker is dead: its process group, and whatever bears its mark.

Every worker has a mark in its environment, which what it starts inherits, whatever group or session that moves to.
Run as a script this is a supervisor's guard: it waits until its standard input ends, as it does however the supervisor
ends, and kills what is left. It runs without site-packages, so this module imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

MARK = "DSPEX_WORKER_MARK"
_ROUNDS = 5
"""A process may start another while we look: look until nothing is found."""


def marked(mark: str) -> list[int]:
    """Processes whose mark begins with ``mark``. None where the system does not tell."""
    wanted = f"\0{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted in b"\0" + (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found


def kill_marked(mark: str) -> None:
    for _ in range(_ROUNDS):
        found = [pid for pid in marked(mark) if pid != os.getpid()]
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def main() -> None:
    """Reads ``+GROUP`` and ``-GROUP`` lines: the groups that live."""
    mark, groups = sys.argv[1], set[int]()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    for group in groups:
        kill_group(group)
    kill_marked(mark)


if __name__ == "__main__":
    main()
