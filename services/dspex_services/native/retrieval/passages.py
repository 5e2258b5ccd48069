"""Passages: what every search finds, and how a text is cut into them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from .words import count, spans

WORDS = 160
"""About as long as a passage gets."""

_HEADING = re.compile(r"#{1,6}\s+(.*\S)\s*")
_BLANK_LINES = re.compile(r"\n\s*\n")
_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*$")


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
    title, held, size = "", list[str](), 0
    fenced = False
    for paragraph in _BLANK_LINES.split(text):
        heading = None if fenced else _HEADING.match(paragraph.strip())
        fenced ^= len(_FENCE.findall(paragraph)) % 2 == 1
        if heading:
            yield from _joined(title, held)
            title, held, size = heading[1], [], 0
            paragraph = paragraph.strip()[heading.end() :]
        for piece in _pieces(paragraph.strip(), words):
            held.append(piece)
            size += count(piece)
            if size >= words:
                yield from _joined(title, held)
                held, size = [], 0
    yield from _joined(title, held)


def chunks(text: str, words: int, overlap: int = 0) -> list[str]:
    """The text in order, in chunks of at most ``words`` words, cut at paragraphs, else at sentences, else between
    words; each begins with the last ``overlap`` words of the one before."""
    room = words - overlap
    found: list[str] = []
    held: list[str] = []
    size = 0
    for piece in (piece for paragraph in _BLANK_LINES.split(text) for piece in _pieces(paragraph.strip(), room)):
        if held and size + count(piece) > room:
            found.append("\n\n".join(held))
            held, size = [], 0
        held.append(piece)
        size += count(piece)
    found += ["\n\n".join(held)] if held else []
    if not overlap:
        return found
    before = ["", *(_last(chunk, overlap) for chunk in found)]
    return [f"{last} {chunk}".strip() for last, chunk in zip(before, found, strict=False)]


def _last(text: str, words: int) -> str:
    return text[spans(text)[-words:][0][0] :]


def _pieces(paragraph: str, words: int) -> Iterator[str]:
    """The paragraph, cut where it is longer than a passage: after a sentence, if one ends in the last two thirds."""
    found = spans(paragraph)
    first = 0
    while first < len(found):
        last = min(first + words, len(found))
        if last < len(found):
            ends = range(last, first + words // 3, -1)
            last = next((end for end in ends if _SENTENCE_END.search(paragraph, *found[end - 1])), last)
        yield paragraph[found[first][0] : found[last - 1][1]]
        first = last


def _joined(title: str, held: list[str]) -> Iterator[tuple[str, str]]:
    if held:
        yield title, "\n\n".join(held)
