"""What the pages of the documentation print can be used as it is printed: commands, files and code."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest
import yaml

pytest.importorskip("dspy")

import dspex
from dspex.cli import cli
from dspex_bus.signatures import SignatureError, parse_signature, read_signature
from dspex_router.plan import Catalog, compile_pipeline
from dspex_services.dspy.model import Models
from dspex_services.dspy.pool import dspy_handlers
from dspex_services.dspy.programs import Programs
from dspex_services.lm import LMConfig
from dspex_services.lm.settings import ModelTable
from dspex_services.mcp.config import MCPServer
from dspex_services.native.pool import native_handlers

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.joinpath("docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SETTING = re.compile(r"[A-Z_]+=")


class Block(NamedTuple):
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text("utf-8")
        for found in _BLOCK.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield Block(page.relative_to(ROOT).as_posix(), line, found[1], textwrap.dedent(found[2]))


def commands() -> Iterator[tuple[Block, list[str]]]:
    """Each call of ``dspex``, without the variables that are set for it."""
    for block in blocks():
        for line in block.text.replace("\\\n", " ").splitlines():
            if block.language or not re.match(r"(\$ )?([A-Z_]+=\S+ )*dspex ", line):
                continue
            words = [word for word in shlex.split(line.removeprefix("$ "), comments=True)]
            while _SETTING.match(words[0]):
                words.pop(0)
            yield block, words[1:]


BLOCKS = list(blocks())
COMMANDS = list(commands())


def python(block: Block) -> bool:
    return block.language == "python"


@pytest.mark.parametrize(("block", "words"), COMMANDS, ids=[f"{block} {' '.join(words)}" for block, words in COMMANDS])
def test_commands_are_ones(block: Block, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files that they name are there."""
    for word in words:
        if re.fullmatch(r"[\w/-]+\.\w+", name := word.rpartition("=")[2]):
            tmp_path.joinpath(name).parent.mkdir(parents=True, exist_ok=True)
            tmp_path.joinpath(name).touch()
    monkeypatch.chdir(tmp_path)
    group: click.Command | None = cli
    context = None
    while isinstance(group, click.Group):
        if words == ["--help"]:
            return
        context = group.make_context("dspex", words, parent=context)
        words = [*context._protected_args, *context.args]
        _, group, words = group.resolve_command(context, words)
    assert group is not None
    group.make_context(group.name, words, parent=context)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    pools = {"native": native_handlers(), "dspy": dspy_handlers(Programs(Models({})))}
    return Catalog({name: {info.name: info for info in handlers.infos()} for name, handlers in pools.items()})


FILES = [block for block in BLOCKS if block.language == "yaml"]


@pytest.mark.parametrize("block", FILES, ids=map(str, FILES))
def test_files_are_ones(block: Block, catalog: Catalog) -> None:
    said: Any = yaml.safe_load(block.text)
    match said:
        case {"apiVersion": _}:
            pytest.skip("a file for another program")
        case {"steps": str()}:
            msgspec.convert({**said, "steps": [{"sleep_s": 1}]}, dspex.PipelineDefinition)  # its other fields
        case {"steps": _}:
            compile_pipeline(msgspec.convert({"name": "p", **said}, dspex.PipelineDefinition), catalog)
        case [{"call": _} | {"native": _} | {"module": _}, *_]:
            compile_pipeline(msgspec.convert({"name": "p", "steps": said}, dspex.PipelineDefinition), catalog)
        case {"signature": form}:
            read_signature(form)
        case Mapping() if any("/" in name for name in said):
            for name in said:
                ModelTable(said).over(LMConfig(model=name if "/" in name and "*" not in name else "openai/x"))
        case Mapping() if any({"command", "url"} & set(entry) for entry in said.values() if isinstance(entry, Mapping)):
            msgspec.convert(said, dict[str, MCPServer])
        case _:
            raise AssertionError(f"{block}: nothing here says what this is")


CODE = [block for block in BLOCKS if python(block)]


@pytest.mark.parametrize("block", CODE, ids=map(str, CODE))
def test_code_is_code(block: Block) -> None:
    """It runs in tests/e2e/test_pages.py where it needs a system."""
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def test_the_page_on_signatures() -> None:
    page = [block for block in BLOCKS if block.page == "docs/signatures.md"]
    line, fault = (block.text for block in page if not block.language)
    assert parse_signature(line).input_names == ("question", "passages", "limit")
    with pytest.raises(SignatureError) as caught:
        parse_signature(fault.splitlines()[1].strip())
    assert str(caught.value) == fault.strip()
    (code,) = (block.text for block in page if python(block))
    *statements, claim = code.rstrip().split("\n\n")
    names: dict[str, Any] = {}
    exec(compile("\n\n".join(statements), "page", "exec", dont_inherit=True), names)
    assert eval(claim, names)
