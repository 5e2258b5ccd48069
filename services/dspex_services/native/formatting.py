"""An answer with its sources, for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from .retrieval import Passage


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """``number`` is how the answer cites it, from 1; ``quote`` is the beginning of the passage."""

    number: int
    source: str
    title: str
    quote: str


class Formatted(msgspec.Struct, frozen=True, kw_only=True):
    markdown: str
    answer: str
    sources: list[Source]


_QUOTE = 160
_MARKUP = re.compile(r"[\\`*_\[\]<>|~]")


def sources_of(passages: Sequence[Passage], cited: Sequence[int]) -> list[Source]:
    """A source for each document, in the order cited; with no citation, in the order of relevance."""
    chosen = [passages[number - 1] for number in cited if 1 <= number <= len(passages)] or list(passages)
    found: dict[str, Source] = {}
    for passage in chosen:
        if passage.source not in found:
            found[passage.source] = Source(
                number=len(found) + 1, source=passage.source, title=passage.title, quote=_quote(passage.text)
            )
    return list(found.values())


def markdown(question: str, answer: str, sources: Sequence[Source]) -> str:
    lines = [f"## {_escaped(_line(question))}", "", answer.strip() or "No answer was found."]
    if sources:
        lines += ["", "### Sources", ""]
        lines += [
            f"{source.number}. **{_escaped(_line(source.title))}** ({_code(source.source)}): {_escaped(source.quote)}"
            for source in sources
        ]
    return "\n".join(lines) + "\n"


def text(question: str, answer: str, sources: Sequence[Source]) -> str:
    lines = [_line(question), "", answer.strip() or "No answer was found."]
    if sources:
        lines += ["", "Sources:", *(f"  {source.number}. {source.title} ({source.source})" for source in sources)]
    return "\n".join(lines) + "\n"


def _quote(passage: str) -> str:
    line = _line(passage)
    return line if len(line) <= _QUOTE else line[:_QUOTE].rsplit(" ", 1)[0] + " …"


def _line(value: str) -> str:
    return " ".join(value.split())


def _escaped(value: str) -> str:
    """Text of documents and questions as what it is: none of it makes a link, a heading or markup."""
    return _MARKUP.sub(r"\\\g<0>", value)


def _code(value: str) -> str:
    """Between more backticks than it has in a row."""
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", value)), default=0))
    padding = " " if len(fence) > 1 else ""
    return f"{fence}{padding}{value}{padding}{fence}"
