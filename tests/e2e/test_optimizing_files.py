"""Every optimizer as its user starts it: a job in a file, run by the command line, whose program then answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import dspex

from .conftest import RunningSystem
from .processes import dspex as dspex_command
from .processes import dspex_here

pytest.importorskip("dspy")
pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PEOPLE = ["Ada Lovelace", "Kurt Goedel", "Emmy Noether", "Alan Turing", "Grace Hopper", "Mary Shelley"]
ROWS = [
    {"context": f"{person} made the {place}th tool.", "question": f"Who made the {place}th tool?", "answer": person}
    for place, person in enumerate(PEOPLE)
]
OPTIONS: dict[str, dict[str, Any]] = {
    "miprov2": {"num_candidates": 2},
    "gepa": {"max_metric_calls": 16, "reflection_minibatch_size": 2},
    "simba": {"bsize": 4, "num_candidates": 2, "max_steps": 1},
    "copro": {"breadth": 2, "depth": 1},
    "bootstrap_few_shot": {"max_labeled_demos": 2},
    "bootstrap_random_search": {"num_candidate_programs": 2},
    "bootstrap_optuna": {"num_candidate_programs": 2},
    "labeled_few_shot": {"k": 2},
    "knn_few_shot": {"k": 2},
    "infer_rules": {"num_candidates": 2, "num_rules": 2},
    "bettertogether": {
        "optimizers": {
            "p": {"optimizer": "labeled_few_shot", "k": 2},
            "q": {"optimizer": "miprov2", "num_candidates": 2},
        },
        "strategy": "p -> q",
        "valset_ratio": 0.4,
    },
}
JOB = {
    "module": "dspy.Predict",
    "signature": "context, question -> answer",
    "trainset": "train.jsonl",
    "metric": "exact_match",
    "seed": 3,
}


def written(folder: Path, **job: Any) -> str:
    (folder / "train.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    file = folder / "job.yaml"
    file.write_text(yaml.safe_dump({**JOB, **job}))
    return str(file)


async def answer(client: dspex.Client, program: str) -> str:
    asked = {name: ROWS[0][name] for name in ("context", "question")}
    pipeline = dspex.pipeline([dspex.module("dspy.Program", program=program)], name="asked")
    result = await client.run(pipeline, asked, timeout_s=30)
    assert result.output is not None
    return str(result.output["answer"])


@pytest.mark.parametrize("optimizer", OPTIONS)
async def test_a_job_in_a_file(running: RunningSystem, client: dspex.Client, tmp_path: Path, optimizer: str) -> None:
    name = f"file-{optimizer}"
    file = written(tmp_path, optimizer=optimizer, options=OPTIONS[optimizer], program=name)
    done = dspex_command("optimize", file, "--json", environment=running.environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["program"].startswith(f"{name}@")
    assert not found["stopped"]
    assert await answer(client, found["program"])


async def test_programs_in_a_file_vote(running: RunningSystem, client: dspex.Client, tmp_path: Path) -> None:
    for name in ("voter-a", "voter-b"):
        file = written(tmp_path, optimizer="labeled_few_shot", options={"k": 2}, program=name)
        done = dspex_command("optimize", file, "--json", environment=running.environment)
        assert done.returncode == 0, done.stderr
    job = {"optimizer": "ensemble", "programs": ["voter-a", "voter-b"], "program": "voters"}
    written(tmp_path)
    file = tmp_path / "ensemble.yaml"
    file.write_text(yaml.safe_dump({"trainset": "train.jsonl", "metric": "exact_match", **job}))
    done = dspex_command("optimize", str(file), "--json", environment=running.environment)
    assert done.returncode == 0, done.stderr
    assert await answer(client, "voters")


def test_options_that_do_not_go_together_are_refused_with_what_to_change(
    running: RunningSystem, tmp_path: Path
) -> None:
    file = written(tmp_path, optimizer="miprov2", options={"auto": "light", "num_candidates": 4})
    done = dspex_here("optimize", file, environment=running.environment)
    assert done.returncode != 0
    assert "leave out auto, or leave out num_candidates" in " ".join(done.stderr.split())
