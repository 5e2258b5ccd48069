"""docs/protocol.md is what the code says, and tells every code that a client may see."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from dspex_router.plan.structure import KINDS

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def codes(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("codes")


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("generate")


def test_every_code_that_is_said_is_explained(codes: ModuleType) -> None:
    explained = {code for group in codes.CODES.values() for code in group}
    said = codes.said()
    assert said["unknown_pipeline"] == {"router/dspex_router/shell/pipelines.py"}
    assert not {code: files for code, files in said.items() if code not in explained | codes.PRIVATE}, "docs/codes.py"
    assert not explained - set(said), "nothing says these any more: docs/codes.py"


def test_no_code_is_explained_twice(codes: ModuleType) -> None:
    assert len([code for group in codes.CODES.values() for code in group]) == len(
        {code for group in codes.CODES.values() for code in group}
    )


def test_the_page_is_what_the_code_says(generate: ModuleType) -> None:
    assert (DOCS / "protocol.md").read_text("utf-8") == generate.protocol_page(), "run: make docs"
    assert (DOCS / "pipeline.schema.json").read_text("utf-8") == generate.pipeline_schema(), "run: make docs"


def test_the_blocking_client_has_the_types_of_the_other(generate: ModuleType) -> None:
    stub = generate.STUB.read_text("utf-8")
    assert stub == generate.blocking_stub(), "run: make docs"
    assert "def submit(self, pipeline: Pipeline, input: Mapping[str, Any] | None=None, *, " in stub
    assert "def events(self, *, after: int=0) -> Iterator[StoredEvent]:" in stub


def test_the_page_names_every_request_and_kind_of_step(generate: ModuleType) -> None:
    page = (DOCS / "protocol.md").read_text("utf-8")
    for subject in ("session.signal", "session.fork", "letters.retry", "limit.put", "pools.list"):
        assert f"| `dspex.v1.{subject}` |" in generate.requests()
    prose = page.partition("## What a definition looks like")[2].partition("```yaml")[0]
    assert [kind for kind in KINDS if f"`{kind}`" not in prose] == []
