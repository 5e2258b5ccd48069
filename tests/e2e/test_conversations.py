"""A conversation over several runs, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import RunningSystem
from .processes import dspex_here

PIPELINE = """
name: chat
steps:
  - call: predict
    with: {signature: "question -> answer"}
    remember: true
"""


def test_runs_of_one_thread(running: RunningSystem, tmp_path: Path) -> None:
    file = tmp_path / "chat.yaml"
    file.write_text(PIPELINE)

    def ask(*arguments: str, code: int = 0) -> Any:
        done = dspex_here(*arguments, "--json", environment=running.environment)
        assert done.returncode == code, done.stdout
        return json.loads(done.stdout)

    for question in ("What is 1 plus 2?", "What is 3 plus 4?"):
        ask("run", str(file), f"question={question}", "--thread", "customer-42")
    ask("run", str(file), "question=What is 5 plus 6?", "--session", "of-its-own")
    listed = {(thread["name"], thread["turns"]) for thread in ask("threads", "list", "--sessions")}
    assert {("customer-42", 2), ("of-its-own", 1)} <= listed
    assert "of-its-own" not in {thread["name"] for thread in ask("threads", "list")}
    turns = ask("threads", "show", "customer-42")["turns"]
    assert [turn["fields"] for turn in turns] == [
        {"question": "What is 1 plus 2?", "answer": "3"},
        {"question": "What is 3 plus 4?", "answer": "7"},
    ]
    shown = dspex_here("threads", "show", "of-its-own", "--session", environment=running.environment).stdout
    assert "11" in shown
    assert ask("threads", "clear", "customer-42") == {"thread": "customer-42", "turns": 2}
    assert ask("threads", "show", "customer-42", code=1)["error"]["code"] == "unknown_thread"
