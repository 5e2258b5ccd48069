"""Passages: what every search finds, and how a text is cut into them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

WORDS = 160
"""About as long as a passage gets."""

_HEADING = re.compile(r"#{1,6}\s+(.*\S)\s*")
_BLANK_LINES = re.compile(r"\n\s*\n")
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+|(?<=[。！？])")


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """``source`` is where it comes from, such as the document's path in its folder; ``title`` its nearest heading;
    ``id`` tells passages apart. ``score`` grows with relevance; its scale is the search's own."""

    id: str
    text: str
    source: str
    title: str = ""
    score: float = 0.0


class Passages(msgspec.Struct, frozen=True, kw_only=True):
    """The best first."""

    passages: list[Passage]


def shown(passage: Passage) -> str:
    """The passage as a prompt shows it, with where it comes from before it."""
    where = f"{passage.source}: {passage.title}" if passage.title else passage.source
    return f"[{where}] {passage.text}"


def sections(text: str, words: int = WORDS) -> Iterator[tuple[str, str]]:
    """Paragraphs under their heading, joined until they have about the length of a passage."""
    title, held = "", list[str]()
    for paragraph in _BLANK_LINES.split(text):
        heading = _HEADING.match(paragraph.strip())
        if heading:
            yield from _joined(title, held)
            title, held = heading[1], []
            paragraph = paragraph.strip()[heading.end() :]
        for piece in _pieces(paragraph.strip(), words):
            held.append(piece)
            if sum(len(part.split()) for part in held) >= words:
                yield from _joined(title, held)
                held = []
    yield from _joined(title, held)


def chunks(text: str, words: int, overlap: int = 0) -> list[str]:
    """The text in order, in chunks of at most ``words`` words, cut at paragraphs, else at sentences, else between
    words; each begins with the last ``overlap`` words of the one before."""
    room = words - overlap
    found: list[str] = []
    held: list[str] = []
    for piece in (piece for paragraph in _BLANK_LINES.split(text) for piece in _pieces(paragraph.strip(), room)):
        if held and sum(len(part.split()) for part in held) + len(piece.split()) > room:
            found.append("\n\n".join(held))
            held = []
        held.append(piece)
    found += ["\n\n".join(held)] if held else []
    if not overlap:
        return found
    before = ["", *(" ".join(chunk.split()[-overlap:]) for chunk in found)]
    return [f"{last} {chunk}".strip() for last, chunk in zip(before, found, strict=False)]


def _pieces(paragraph: str, words: int) -> Iterator[str]:
    """The paragraph, cut where it is longer than a passage."""
    if not paragraph:
        return
    if len(paragraph.split()) <= words:
        yield paragraph
        return
    held: list[str] = []
    for sentence in _SENTENCE_END.split(paragraph):
        told = sentence.split()
        while told:
            if held and len(held) + len(told) > words:
                yield " ".join(held)
                held = []
            held += told[:words]
            told = told[words:]
    if held:
        yield " ".join(held)


def _joined(title: str, held: list[str]) -> Iterator[tuple[str, str]]:
    if held:
        yield title, "\n\n".join(held)
