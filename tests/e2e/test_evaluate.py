"""``dspex evaluate`` and ``dspex dataset`` against a running system, as a person uses them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import RunningSystem
from .processes import dspex_here

pytest.importorskip("dspy")

CONTEXT = "Ada designed the pool. Kurt wrote the lease."
ROWS = [
    {"context": CONTEXT, "question": "Who designed the pool?", "answer": "Ada designed the pool."},
    {"context": CONTEXT, "question": "Who wrote the lease?", "answer": "Nora"},
]


def test_evaluate_compare_and_harvest(running: RunningSystem, tmp_path: Path) -> None:
    def dspex(*arguments: str, code: int = 0) -> str:
        done = dspex_here(*arguments, environment=running.environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    data = tmp_path / "dev.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    ask = tmp_path / "ask.yaml"
    ask.write_text("steps: [{module: dspy.Predict, with: {signature: 'context, question -> answer'}}]\n")
    signed = ("--module", "dspy.Predict", "--with", "signature=context, question -> answer")
    saved = tmp_path / "scored.jsonl"
    told = dspex("evaluate", str(data), *signed, "--save", str(saved))
    assert "50.00" in told
    assert "should be 'Nora'" in told
    assert [json.loads(line)["score"] for line in saved.read_text().splitlines()] == [1.0, 0.0]
    both = (*signed, "--pipeline", str(ask), "--inputs", "context,question", "--field", "answer", "--metric", "f1")
    found = json.loads(dspex("evaluate", str(data), *both, "--json"))
    assert found["comparison"]["same"] == 2
    assert [one["examples"] for one in found["evaluations"]] == [2, 2]
    assert "say what to evaluate" in dspex("evaluate", str(data), code=2)

    kept = tmp_path / "kept.jsonl"
    told = dspex("dataset", "from-sessions", str(kept), "--pipeline", "evaluated-ask", "--since", "1h")
    assert "2 examples" in told
    assert {json.loads(line)["question"] for line in kept.read_text().splitlines()} == {row["question"] for row in ROWS}
    assert json.loads(dspex("dataset", "show", str(data), "--json"))["fields"] == ["context", "question", "answer"]


def test_a_job_left_and_followed(running: RunningSystem, tmp_path: Path) -> None:
    def dspex(*arguments: str, code: int = 0) -> str:
        done = dspex_here("optimize", *arguments, environment=running.environment)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    job = tmp_path / "job.yaml"
    job.write_text(
        "module: dspy.Predict\nsignature: 'context, question -> answer'\ntrainset: train.jsonl\nmetric: f1\n"
        "optimizer: labeled_few_shot\noptions: {k: 1}\nprogram: followed\n"
    )
    session = json.loads(dspex(str(job), "--detach", "--json"))["session"]
    found = json.loads(dspex("--follow", session, "--json"))
    assert (found["program"], found["session"]) == ("followed@1", session)
    assert "followed@1" in dspex("--follow", session)
    job.write_text(job.read_text().replace("k: 1", "kk: 1"))
    assert "LabeledFewShot has no option 'kk'; did you mean 'k'?" in dspex(str(job), code=1)
    assert "give a job file" in dspex(code=2)
