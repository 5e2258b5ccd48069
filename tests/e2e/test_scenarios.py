"""The files under examples/, run as their headers say, against the offline LM."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from aiohttp import web

from .conftest import RunningSystem, command, first_line, offline_environment
from .processes import ROOT, dspex
from .test_examples import CASES as ONE_FILE

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "examples"


def program(name: str, running: RunningSystem) -> str:
    """What an example in Python prints."""
    line = [sys.executable, str(EXAMPLES / name)]
    done = subprocess.run(line, env=running.environment, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_simple_use(running: RunningSystem) -> None:
    native, ran_natively, thought, ran_in_dspy = program("simple_use.py", running).splitlines()
    assert (native, thought) == ("42", "42")
    assert "ran: predict, native, in pool native" in ran_natively
    assert "ran: dspy.ChainOfThought, dspy, in pool dspy" in ran_in_dspy


def test_a_direct_call(running: RunningSystem) -> None:
    said, used, again, refused = program("direct_call.py", running).splitlines()
    assert "42" in said
    assert used.startswith("  1 call, ")
    assert again
    assert refused == "budget_exceeded: the run has used 0 tokens of the 0 that its budget allows"


def test_the_program_of_the_readme(running: RunningSystem) -> None:
    readme = (ROOT / "README.md").read_text()
    output = program("first.py", running)
    assert output.strip() in readme
    body = (EXAMPLES / "first.py").read_text().split("\n", 2)[2]
    assert body in readme


def test_mixed_with_a_cache(running: RunningSystem) -> None:
    line = ("run", str(EXAMPLES / "cached.yaml"), "question=What is 40 plus 2, cached?")
    first, second = (dspex(*line, environment=running.environment) for _ in range(2))
    assert json.loads(first.stdout.splitlines()[-1])["hit"] is False
    assert json.loads(second.stdout.splitlines()[-1])["hit"] is True
    assert "from the cache" in second.stdout


def test_own_handlers(running: RunningSystem) -> None:
    folder = EXAMPLES / "own_handlers"
    with command("serve", "wordcount:handlers", environment=running.environment, cwd=folder) as pool:
        assert "ready" in first_line(pool)
        line = ("run", "pipeline.yaml", "text=to be or not to be", "--json")
        done = dspex(*line, environment=running.environment, cwd=folder)
    assert json.loads(done.stdout)["output"] == {"text": "TO BE OR NOT TO BE (6 words, mostly to)"}


def test_timeouts_and_errors(running: RunningSystem) -> None:
    output = program("timeouts_and_errors.py", running)
    assert "{'text': 'Hello Ada'}" in output
    for code in ("template_failed", "unknown_handler", "unknown_pipeline", "invalid_input", "invalid_signature"):
        assert code in output


class Searches:
    """A ColBERTv2 server and a SearXNG instance, as far as their protocols go."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def colbert(self, request: web.Request) -> web.Response:
        self.asked.append(("colbert", request.query["query"]))
        texts = ["Okapi | The okapi lives in the rainforest of the Congo.", "Zebra | Zebras live on plains."]
        hits = [
            {"pid": 7 + rank, "rank": rank + 1, "score": 20.0 - rank, "text": text, "prob": 0.5}
            for rank, text in enumerate(texts[: int(request.query["k"])])
        ]
        return web.json_response({"topk": hits})

    async def searxng(self, request: web.Request) -> web.Response:
        self.asked.append(("web", request.query["q"]))
        hit = {"url": "http://127.0.0.1/okapi", "title": "Okapis", "content": "An okapi eats leaves and fruit."}
        return web.json_response({"results": [hit]})


def test_an_optimized_program_is_used_by_the_next_run(running: RunningSystem) -> None:
    *progress, result, answer = program("optimize.py", running).splitlines()
    assert progress[-1].startswith("done: ")
    assert "best so far" in progress[-1]
    assert result.startswith("brief@")
    assert answer == "Ituri"  # brief, as the metric wants it


async def test_the_research_assistant(tmp_path: Path) -> None:
    """Three searches side by side, over a folder, by ColBERTv2 and on the web; the answer by a program that was
    optimized."""
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "animals.md").write_text("# Okapis\n\nThe okapi is the only living relative of the giraffe.\n")
    (documents / "boats.md").write_text("# Boats\n\nA boat floats on water.\n")
    searches = Searches()
    application = web.Application()
    application.add_routes([web.get("/colbert", searches.colbert), web.get("/search", searches.searxng)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    environment = offline_environment(
        DSPEX_COLBERT_URL=f"http://127.0.0.1:{port}/colbert", DSPEX_SEARXNG_URL=f"http://127.0.0.1:{port}"
    )
    try:
        await anyio.to_thread.run_sync(_research, tmp_path, documents, environment, searches)
    finally:
        await runner.cleanup()


def _research(tmp_path: Path, documents: Path, environment: dict[str, str], searches: Searches) -> None:
    line = (
        "up",
        "--port",
        "0",
        "--data",
        str(tmp_path / "data"),
        "--dspy",
        "1",
        "--documents",
        str(documents),
        "--json",
    )
    with command(*line, environment=environment) as up:
        environment = {**environment, "DSPEX_SERVER": json.loads(first_line(up))["server"]}

        def ask() -> Any:
            line = ("run", str(EXAMPLES / "research.yaml"), "question=Where does the okapi live?", "--json")
            done = dspex(*line, environment=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            return json.loads(done.stdout)["output"]

        made = dspex("optimize", str(EXAMPLES / "synthesis.yaml"), environment=environment)
        assert made.returncode == 0, made.stdout + made.stderr
        assert "trial 2 of" in made.stdout
        assert "synthesis@1" in made.stdout
        output = ask()
        assert [branch["status"] for branch in output["searched"]] == ["succeeded"] * 3
        assert "rainforest of the Congo" in output["answer"]
        assert "colbert:7" in {source["source"] for source in output["sources"]}
        assert {kind for kind, _ in searches.asked} == {"colbert", "web"}


@pytest.fixture(scope="module", autouse=True)
def _no_more_examples_than_are_run() -> Iterator[None]:
    """An example without a test would rot."""
    yield
    run = {
        *ONE_FILE,
        "streaming.yaml",
        "tools",
        "tokens.py",
        "affinity",
        "own_module",
        "simple_use.py",
        "first.py",
        "cached.yaml",
        "own_handlers",
        "timeouts_and_errors.py",
        "research.yaml",
        "synthesis.yaml",
        "synthesis.jsonl",
        "optimize.py",
        "direct_call.py",
        # These are run by tests/chaos/test_long_runs.py.
        "approval.py",
        "batch.py",
    }
    assert {path.name for path in EXAMPLES.iterdir() if not path.name.startswith("__")} == {*run, "javascript"}
