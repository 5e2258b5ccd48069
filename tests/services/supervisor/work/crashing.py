"""A DSPy module that ends its process the first time, in one way or another."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import dspy


class Crashes(dspy.Module):  # type: ignore[misc]
    """``how`` is exit, fault, or memory: as the kernel does when there is none left. Afterwards it answers."""

    def forward(self, how: str, first: str) -> Any:
        if not Path(first).exists():
            Path(first).touch()
            match how:
                case "exit":
                    os._exit(9)
                case "fault":
                    ctypes.string_at(0)
                case _:
                    os.kill(os.getpid(), signal.SIGKILL)
        return dspy.Prediction(pid=os.getpid())
