"""Job files, and how scores are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from dspex.cli.optimize import chart, line, picture
from dspex.jobs import load_job
from dspex_bus.errors import InvalidRequest
from dspex_services.optimizing import Budget, JobProgress, ModuleSpec, Trial

JOB = """
module: dspy.ChainOfThought
signature: "question -> answer"
trainset: data/train.jsonl
metric: {name: f1, field: answer}
optimizer: miprov2
options: {num_candidates: 6}
program: qa
budget: {calls: 10}
"""


def job(folder: Path, text: str) -> Path:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "train.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    (folder / "job.yaml").write_text(text)
    return folder / "job.yaml"


def test_a_job_file_says_all_that_the_call_takes(tmp_path: Path) -> None:
    module, trainset, given = load_job(job(tmp_path, JOB))
    assert module == ModuleSpec(module="dspy.ChainOfThought", signature="question -> answer")
    assert (len(trainset), trainset.name) == (1, "train.jsonl")
    assert (given["num_candidates"], given["optimizer"], given["budget"]) == (6, "miprov2", Budget(calls=10))
    module, _, _ = load_job(
        job(tmp_path, JOB.replace('module: dspy.ChainOfThought\nsignature: "question -> answer"', "start: qa@2"))
    )
    assert module == "qa@2"


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        (("optimizer:", "optimiser:"), "invalid_job", "optimiser"),
        (("calls: 10", "calls: 0"), "invalid_job", "budget"),
        (("module:", "start: qa@1\nmodule:"), "invalid_job", "not both"),
        (("data/train", "data/none"), "file_unreadable", "none.jsonl"),
        (("module:", "  module:"), "invalid_job", "YAML"),
    ],
)
def test_what_is_wrong_with_a_job_file_is_said(tmp_path: Path, changed: tuple[str, str], code: str, said: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        load_job(job(tmp_path, JOB.replace(*changed)))
    assert (refused.value.code, said in refused.value.message) == (code, True), refused.value.message


def test_scores_are_drawn_with_the_best_so_far() -> None:
    history = (
        Trial(number=1, score=0.0, examples=4),
        Trial(number=2, score=100.0, examples=2, full=False),
        Trial(number=3, score=50.0, examples=4),
        Trial(number=4, score=25.0, examples=4),
    )
    assert [text.plain for text in chart(history, 10, height=5)] == [
        "  100.0 ┤ ○  ",
        "   75.0 ┤    ",
        "   50.0 ┤  ●─",
        "   25.0 ┤   ●",
        "    0.0 ┤●─  ",
    ]
    assert [text.plain[-2:] for text in chart(history, 2, height=2)] == ["●─", " ●"]
    assert chart((), 10) == []
    assert [text.plain for text in chart(history[:1] * 3, 10)] == ["    0.0 ┤●●●"]
    progress = JobProgress(phase="evaluating", trials=4, of=9, best=50.0, history=history)
    assert line(progress, history[1]).plain == "trial 2 of 9: 100 on 2, best 50, 0 calls, 0 tokens"
    assert len(picture("s", progress, 40).renderables) == 10
    by_examples = JobProgress(phase="evaluating", examples=15, examples_of=20, left_s=7.4)
    assert by_examples.fraction == 0.75
    console = Console(width=100)
    with console.capture() as captured:
        console.print(picture("s", by_examples, 100))
    assert "15 of 20 examples" in captured.get()
    assert "about 7 s left" in captured.get()
