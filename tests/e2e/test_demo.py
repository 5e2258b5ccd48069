"""``dspex demo``: from nothing to an answer with its sources, and nothing left behind."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from dspex import connect, parse_pipeline
from dspex.cli import demo as command
from dspex.demo import DOCUMENTS, research
from dspex.system import SystemOptions, local_system
from dspex_bus.errors import SetupError
from dspex_services.offline_lm import OfflineLM

from .processes import await_gone, descendants, dspex, dspex_here, offline_environment

pytestmark = pytest.mark.anyio


def answer(*arguments: str, **environment: str) -> dict[str, Any]:
    done = dspex("demo", "--json", *arguments, environment=offline_environment(**environment))
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def sources(made: dict[str, Any]) -> set[str]:
    return {source["source"] for source in made["sources"]}


def test_answers_from_the_documents_that_come_with_it_and_says_what_ran() -> None:
    made = answer()
    assert "delivers the task again to another worker" in made["answer"]
    assert "durability-and-recovery.md" in sources(made)
    assert sources(made) <= {path.name for path in DOCUMENTS.iterdir()}
    assert made["offline"] is True
    tasks = [step for step in made["steps"] if step["kind"] == "task"]
    assert {step["implementation"] for step in tasks} == {"native", "dspy"}
    assert all(step["status"] == "succeeded" and step["worker"] and step["duration_us"] > 0 for step in tasks)
    assert [step["kind"] for step in made["steps"]].count("parallel") == 1


async def test_other_questions_get_other_answers() -> None:
    asked = {
        "Does a power failure lose data?": ("after a power failure the last two minutes may be", "durability-and"),
        "Where are provider keys kept?": ("key stays in the environment of the workers", "models-and-keys"),
        "What eats the lettuce?": ("lettuce", ""),
    }
    async with local_system(SystemOptions(documents=DOCUMENTS)) as system, connect(system.url) as client:
        for question, (words, source) in asked.items():
            output = (await client.run(research(), {"question": question})).output
            assert output is not None
            assert words in output["answer"]
            found = {one["source"] for one in output["sources"]}
            assert any(one.startswith(source) for one in found) if source else not found


@pytest.mark.slow
def test_folder_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "garden").mkdir()
    (tmp_path / "garden" / "beds.md").write_text(
        "# Tomatoes\n\nTomatoes want full sun. Plant them apart.\n\n# Lettuce\n\nSlugs eat young lettuce at night.\n"
    )
    (tmp_path / "bread.txt").write_text("Bake the loaf at 240 degrees for twenty minutes, then at 210 degrees.\n")
    made = answer("--docs", str(tmp_path), "--question", "What eats the lettuce?")
    assert (made["answer"], sources(made)) == ("Slugs eat young lettuce at night.", {"garden/beds.md"})


@pytest.mark.slow
async def test_model_of_the_environment_is_used_where_there_is_one() -> None:
    async with OfflineLM() as lm:
        named = {"DSPEX_MODEL": "openai/of-my-own", "DSPEX_BASE_URL": lm.base_url}
        made = await anyio.to_thread.run_sync(lambda: answer(**named))
    assert (made["model"], made["offline"]) == ("openai/of-my-own", False)
    assert "openai/of-my-own" in {step["usage"]["model"] for step in made["steps"] if step.get("usage")}


@pytest.mark.slow
async def test_model_that_refuses_ends_with_its_error_and_not_with_an_answer() -> None:
    async with OfflineLM() as lm:
        named = offline_environment(DSPEX_MODEL="openai/mine+401", DSPEX_BASE_URL=lm.base_url)
        done = await anyio.to_thread.run_sync(lambda: dspex("demo", "--json", environment=named))
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "lm_auth"


@pytest.mark.slow
def test_piped_it_prints_plain_lines() -> None:
    done = dspex("demo")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    for expected in ("offline LM", "### Sources", "├── ✓ search  parallel", "dspy · pool dspy · ", "What to try next"):
        assert expected in done.stdout
    before, _, after = done.stdout.partition("## What happens")
    assert "✓ merge  merge_passages" in before
    assert "✓ merge  merge_passages" in after
    assert done.stderr == ""


@pytest.mark.slow
def test_in_a_terminal_it_draws_as_it_goes() -> None:
    ours, theirs = pty.openpty()
    environment = offline_environment(TERM="xterm-256color", COLUMNS="120")
    process = subprocess.Popen([sys.executable, "-m", "dspex", "demo"], stdout=theirs, env=environment)
    os.close(theirs)
    shown = b""
    with contextlib.closing(os.fdopen(ours, "rb", buffering=0)) as terminal:
        while True:
            try:
                shown += terminal.read(65536)
            except OSError:  # how Linux says that the other side is closed
                break
    assert process.wait(20) == 0
    text = shown.decode()
    assert "\x1b[2K" in text, "a drawing that changes erases lines"
    assert "succeeded in" in text
    assert "Sources" in text


@pytest.mark.parametrize("moment", ["starting", "model"])
@pytest.mark.slow
def test_interrupted_it_leaves_nothing_behind(moment: str) -> None:
    """As a terminal does it: the signal goes to the whole group of processes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dspex", "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**offline_environment(), "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(moment):
            break
    started = descendants(process.pid)
    assert started or moment == "starting"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in errors
    await_gone(started)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--docs", "nowhere"], 2, "does not exist"),
        (["--question", " "], 2, "question is empty"),
        (["--questoin", "x"], 2, "--question"),
    ],
)
def test_wrong_arguments(arguments: list[str], code: int, said: str) -> None:
    done = dspex_here("demo", *arguments, environment=offline_environment())
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr


def test_folder_without_documents(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    done = dspex_here("demo", "--docs", str(tmp_path), "--json", environment=offline_environment())
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert error["code"] == "folder_empty"
    assert ".md, .txt, .rst" in error["message"]


def test_missing_extras_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "dspy" else find(name))
    with pytest.raises(SetupError, match=r"dspy; install them: pip install 'dspex\[all\]'"):
        command._check(DOCUMENTS)


def test_reader_that_leaves_early_is_no_error() -> None:
    script = f"{sys.executable} -m dspex demo | head -1"
    done = subprocess.run(script, shell=True, capture_output=True, text=True, env=offline_environment(), timeout=50)
    assert done.stdout.startswith("question")
    assert done.stderr == ""


def test_prints_its_pipeline() -> None:
    printed = dspex_here("demo", "--pipeline", environment=offline_environment())
    assert parse_pipeline(printed.stdout) == research()
