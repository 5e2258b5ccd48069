"""What of DSPy can be a step and how, made from what the pool offers: the table in the docs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import dspy

from dspex_bus.wire import HandlerInfo

from .adapters import ADAPTERS, TWO_STEP
from .model import Models
from .options import ModuleOptions
from .pool import dspy_handlers
from .programs import Programs

APART = {
    "Flex": "no step: it writes its own code anew with every use, and DSPy may still change it without warning",
    "Retrieve": "no step: it asks a retriever configured for the whole process; name the retriever itself",
    "EmbeddingsWithScores": "part of `dspy.Embeddings`, which gives the scores too",
    "Tool": "a step's `tools`: handlers anywhere on the bus",
}
"""DSPy's names that are no handler, and what to use instead."""

_NAMES_OF_MODULES = (*dspy.predict.__all__, *dspy.retrievers.__all__, "ColBERTv2", "Flex", "RAG", "Program")
_COMMON = frozenset(ModuleOptions.__struct_fields__)


class Row(NamedTuple):
    name: str
    step: str
    reads: str
    writes: str
    options: str


def rows() -> Iterator[Row]:
    """A row for each of DSPy's modules and retrievers, in DSPy's order, and one for stored programs."""
    offered = {info.name: info for info in dspy_handlers(Programs(Models({}))).infos()}
    for name in _NAMES_OF_MODULES:
        info = offered.get(f"dspy.{name}")
        if info is None:
            yield Row(name, APART[name], "", "", "")
            continue
        own = [field for field in (*info.required, *info.optional) if field not in _COMMON]
        signed = info.reads == "signature"
        yield Row(
            name,
            f"`module: dspy.{name}`: {info.summary}",
            _reads(info),
            _writes(signed, info.outputs),
            ", ".join(f"`{field}`" for field in own if signed or field in info.optional),
        )


def _reads(info: HandlerInfo) -> str:
    match info.reads:
        case "signature":
            return "the signature's inputs"
        case "any":
            return "what the program needs"
    return ", ".join(f"`{field}`" for field in info.required)


def _writes(signed: bool, outputs: tuple[str, ...] | None) -> str:
    added = ", ".join(f"`{field}`" for field in outputs or ())
    if not signed:
        return added
    return f"the signature's outputs, {added}" if added else "the signature's outputs"


def table() -> str:
    """Markdown."""
    lines = ["| DSPy | as a step | reads | writes | options of its own |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    adapters = ", ".join(f"`{name}`" for name in (*ADAPTERS, TWO_STEP))
    common = ", ".join(f"`{field}`" for field in ModuleOptions.__struct_fields__)
    return "\n".join([*lines, "", f"Options of every module with a signature: {common}.", "", f"Adapters: {adapters}."])
