"""``dspex programs`` against a running system, as a person uses it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import RunningSystem

pytest.importorskip("dspy")


def saved(path: Path, instructions: str) -> Path:
    import dspy

    module = dspy.Predict(dspy.Signature("question -> answer", instructions))
    module.save(path)
    return path


@pytest.mark.slow
def test_import_compare_promote_roll_back_export(running: RunningSystem, tmp_path: Path) -> None:
    def programs(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dspex", "programs", *arguments],
            env=running.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    def answer(*arguments: str) -> Any:
        return json.loads(programs(*arguments, "--json"))

    for number, instructions in enumerate(("Answer.", "Be brief."), 1):
        made = ("--module", "dspy.Predict", "--signature", "question -> answer", "--tag", "production")
        file = saved(tmp_path / f"{number}.json", instructions)
        assert answer("import", "cli", str(file), *made)["version"] == number
    (change,) = answer("diff", "cli@1", "cli@2")["changes"]
    assert (change["what"], change["before"], change["after"]) == ("instructions", "Answer.", "Be brief.")
    assert "Be brief." in programs("diff", "cli@1", "cli@2")
    assert answer("rollback", "cli")["version"] == 1
    assert answer("show", "cli")["tags"] == {"production": 1}
    assert "Answer." in programs("show", "cli@production")
    assert answer("promote", "cli@2")["version"] == 2
    assert "production=2" in programs("list")
    exported = tmp_path / "exported.json"
    programs("export", "cli@production", str(exported))
    assert json.loads(exported.read_text())["signature"]["instructions"] == "Be brief."
    assert "unknown_program" in programs("show", "nobody", code=1)
    pickled = tmp_path / "program.pkl"
    pickled.write_bytes(b"")
    assert "pickle_refused" in programs("import", "cli", str(pickled), code=1)
