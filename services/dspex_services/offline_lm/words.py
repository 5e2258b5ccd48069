"""Words, stems and sentences of English prose and Markdown. No model, nothing to load."""

from __future__ import annotations

import re

_STOP_TEXT = """
a about above after again against all also am an and any are as at be because been before being below between
both but by can could describe did do does doing down during each every explain few for from further get give
had happen happens has have having he her here hers him his how i if in into is it its itself just know like
many may me mean means might more most much must my no nor not now of off often on once only or other our out
over own please same say see shall she should show so some such tell than that the their them then there these
they this those through to too under until up us use used uses using very was we were what when where which
while who whom whose why will with work works would you your
"""
STOP_WORDS = frozenset(_STOP_TEXT.split())

_IRREGULAR_TEXT = """
began:begin begun:begin bought:buy broke:break broken:break brought:bring built:build chose:choose chosen:choose
came:come drove:drive driven:drive fell:fall fallen:fall found:find gave:give given:give gone:go went:go grew:grow
grown:grow held:hold kept:keep knew:know known:know led:lead left:leave lost:lose made:make meant:mean met:meet paid:pay
ran:run said:say sent:send sold:sell spent:spend stood:stand taken:take took:take taught:teach thought:think told:tell
understood:understand won:win wrote:write written:write
"""
_IRREGULAR = dict(pair.split(":") for pair in _IRREGULAR_TEXT.split())

_WORD = re.compile(r"[^\W_]+(?:['’\-_.][^\W_]+)*")
_PART = re.compile(r"[^\W_]+")
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|etc|vs|cf|Dr|Mr|Mrs|Ms|St|No|Fig)\.$")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[`*]?[^\W_])")
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_HEADING = re.compile(r"^[ \t]*#{1,6}\s[^\n]*$", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|_{1,3})(?=\S)([^*_\n]+?)(?<=\S)\1(?![\w*])")
_BLOCK_START = re.compile(r"^\s*(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|>|\|)")
_MARKER = re.compile(r"^\s*(?:#{1,6}\s+|[-*+]\s+|\d+[.)]\s+|>\s*)")
_TABLE_RULE = re.compile(r"^\s*\|?[\s:|-]+\|?\s*$")


def words(text: str) -> list[str]:
    """The words of ``text`` as written."""
    return _WORD.findall(text)


def stem(word: str) -> str:
    """A crude stem, the same for a word's common endings: caches, cached and caching agree."""
    word = _IRREGULAR.get(word.lower(), word.lower())
    for ending, replacement in (("ies", "y"), ("ing", ""), ("edly", ""), ("ed", ""), ("es", ""), ("s", ""), ("ly", "")):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: len(word) - len(ending)] + replacement
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def terms(text: str) -> list[str]:
    """The stems of the content words of ``text``, in order, with repetitions; compounds count by their parts."""
    return [stem(part) for part in _PART.findall(text.lower()) if part not in STOP_WORDS]


def keywords(text: str, limit: int = 8) -> list[str]:
    """The distinct content words of ``text`` as written, in order."""
    found: dict[str, str] = {}
    for word in words(text):
        if word.lower() not in STOP_WORDS:
            found.setdefault(stem(word), word)
    return list(found.values())[:limit]


def names(text: str) -> list[str]:
    """Capitalised phrases, distinct, in order; a sentence's first word counts only as part of a longer phrase."""
    found: dict[str, None] = {}
    for sentence in sentences(text):
        for match in re.finditer(r"\b[A-Z][\w-]*(?:\s+(?:of\s+|the\s+)?[A-Z][\w-]*)*", sentence):
            phrase = _without_leading_stop_words(match.group())
            if phrase and (match.start() > 0 or " " in phrase or not match.group()[1:].islower()):
                found.setdefault(phrase)
    return list(found)


def places(text: str) -> list[str]:
    """Of the names those that a word of place goes before."""
    return [name for name in names(text) if re.search(rf"\b(?:in|at|from|to|near|into) {re.escape(name)}\b", text)]


def _without_leading_stop_words(phrase: str) -> str:
    parts = phrase.split()
    while parts and parts[0].lower() in STOP_WORDS:
        parts.pop(0)
    return " ".join(parts)


def sentences(text: str) -> list[str]:
    """The sentences of prose or Markdown; list items and rows stand alone, headings and fenced code are left out."""
    found: list[str] = []
    for block in _blocks(_HEADING.sub("", _without_code(text))) or _blocks(text):
        start = 0
        for end in _SENTENCE_END.finditer(block):
            piece = block[start : end.start()]
            if not _ABBREVIATION.search(piece):
                found.append(piece.strip())
                start = end.end()
        found.append(block[start:].strip())
    return [sentence for sentence in found if sentence]


def _without_code(text: str) -> str:
    """Fences are taken in pairs; one left over, as in a text that was cut, fences nothing."""
    lines = text.splitlines()
    fences = [number for number, line in enumerate(lines) if _FENCE.match(line)]
    for first, last in zip(fences[0::2], fences[1::2], strict=False):
        lines[first : last + 1] = [""] * (last + 1 - first)
    return "\n".join(lines)


def _blocks(text: str) -> list[str]:
    """Paragraphs with their wrapped lines joined; list items, headings and rows each on their own."""
    blocks: list[str] = []
    fresh = True
    for line in text.splitlines():
        if not line.strip() or _TABLE_RULE.match(line):
            fresh = True
            continue
        begins = _BLOCK_START.match(line)
        piece = _EMPHASIS.sub(r"\2", _MARKER.sub("", line)).strip().strip("|").strip()
        if fresh or begins:
            blocks.append(piece)
        else:
            blocks[-1] += " " + piece
        fresh = bool(re.match(r"^\s*(#{1,6}\s|\|)", line))
    return blocks
