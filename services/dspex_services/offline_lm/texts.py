"""Text for an output field, by what its name says it is: a reasoning, a query, a summary, code, or an answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable

from . import sums
from .evidence import central
from .material import Material
from .passages import Passage
from .words import keywords, names, places, terms, words

_QUERY_WORDS = 6
_SHORT = 8  # words
_QUANTITY = re.compile(
    r"\bhow (?:many|much|long|old|far|often)\b|\bwhat (?:year|number|percentage|time)\b|\bwhen\b", re.I
)
_FIGURE = re.compile(r"\d[\d,.]*\d|\d")


def text_for(name: str, material: Material) -> str:
    """Text for the field ``name`` (lower case). It never opens a section of its own."""
    make = next((made for pattern, made in _BY_NAME if pattern.search(name)), answer)
    return make(material).replace("[[ ##", "[ ##")


def answer(material: Material) -> str:
    """The sentences that answer; the result of a sum; else the gist of what was given, or that nothing was."""
    if not material.evidence and (result := sums.solve(material.question)) is not None:
        return str(result)
    if material.evidence:
        return short_span(material) if material.wants_short else _joined([one.sentence for one in material.evidence])
    if not material.passages:
        about = ", ".join(keywords(material.question)) or "this"
        return f"Nothing was given to answer from about {about}; the offline LM only extracts from given text."
    if material.question:
        return f"The given text says nothing about {', '.join(keywords(material.question)) or 'this'}."
    return summary(material)


def short_span(material: Material) -> str:
    """A few words of the best sentence: a figure where one is asked for, else a name the question does not hold."""
    sentence = max(material.evidence, key=lambda one: one.score).sentence
    if _QUANTITY.search(material.question) and (figure := _FIGURE.search(sentence)):
        return figure.group()
    asked = material.question.lower()
    fresh = next((name for name in names(sentence) if name.lower() not in asked), None)
    return fresh or " ".join(sentence.split()[:_SHORT]).rstrip(".,;:")


def summary(material: Material) -> str:
    given = material.passages or [Passage(material.everything)]
    return _joined(central(given, limit=2 if material.wants_short else 3))


def gist(material: Material) -> str:
    return _joined(central(material.passages or [Passage(material.everything)], limit=1))


def place(material: Material) -> str:
    """The first place that is named."""
    return next(iter(places(material.everything)), None) or answer(material)


def translation(material: Material) -> str:
    """The text with the words of a glossary, where one is given, in their places: no language is known here."""
    inputs = {name: (text, _glossary(text)) for name, text in material.prompt.inputs.items()}
    glossary = {word.lower(): other for _, found in inputs.values() for word, other in found.items()}
    text = next((text for text, found in inputs.values() if not found), "")
    if not glossary:
        return f"[not translated: the offline LM knows no languages] {text}"
    known = "|".join(re.escape(word) for word in sorted(glossary, key=len, reverse=True))
    return re.sub(rf"\b(?:{known})\b", lambda match: glossary[match.group().lower()], text, flags=re.IGNORECASE)


def _glossary(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {word: str(other) for word, other in found.items() if word} if isinstance(found, dict) else {}


def _joined(found: list[str]) -> str:
    """Sentences as one text; list items and table rows get the full stop they lack."""
    return " ".join(one if one.endswith((".", "!", "?", ":")) or len(found) == 1 else f"{one}." for one in found)


def reasoning(material: Material) -> str:
    """What was asked, what was given and what matched; a reader can check each word of it."""
    about = ", ".join(keywords(material.question)) or "the given text"
    lines = [f"The task is about {about}."]
    if material.evidence:
        first = material.evidence[0]
        matched = ", ".join(keywords(_matched_words(material.question, first.matched)))
        where = f"passage {material.name_of(first.passage)} of {len(material.passages)}"
        lines.append(f"In {where} this matches best ({matched}): {first.sentence}")
    elif (result := sums.solve(material.question)) is not None:
        lines.append(f"It is a sum: {sums.expression(material.question)} = {result}.")
    elif material.passages:
        lines.append(f"{len(material.passages)} passages were given and none uses these words.")
    else:
        lines.append("No passages were given.")
    return " ".join(lines)


def _matched_words(question: str, matched: frozenset[str]) -> str:
    return " ".join(word for word in words(question) if matched & set(terms(word)))


def query(material: Material) -> str:
    """The question's content words; on a later hop, with names that the passages have brought."""
    found = keywords(material.question or material.everything, _QUERY_WORDS)
    new = [
        name for one in material.evidence for name in names(one.sentence) if name.lower() not in " ".join(found).lower()
    ]
    return " ".join(found + new[:2])


def queries(material: Material) -> list[str]:
    """The whole question's words, then its halves, so that several searches find different things."""
    found = keywords(material.question or material.everything, 2 * _QUERY_WORDS)
    half = (len(found) + 1) // 2
    options = [" ".join(found), " ".join(found[:half]), " ".join(found[half:])]
    return [option for option in dict.fromkeys(options) if option]


def title(material: Material) -> str:
    return " ".join(keywords(material.question or material.everything, 5)).capitalize()


def code(material: Material) -> str:
    """A skeleton that says so: the function's name and documentation come from the request."""
    wanted = [re.sub(r"\W", "", word).lower() for word in keywords(material.question or material.everything, 4)]
    name = "_".join(word for word in wanted if word and not word[0].isdigit()) or "solution"
    described = " ".join((material.question or material.everything).split()).replace('"""', "'''")
    return f'def {name}(*args):\n    """{described}"""\n    raise NotImplementedError("the offline LM writes no code")'


def instruction(material: Material) -> str:
    """One of a few ways to put an instruction, picked by the prompt, so that an optimizer has something to compare."""
    basis = next((text for name, text in material.prompt.inputs.items() if "instruction" in name), "")
    basis = (
        basis.strip() or f"Given the fields, produce the {', '.join(field.name for field in material.prompt.outputs)}."
    )
    digest = hashlib.sha256(material.everything.encode()).digest()[0]
    return f"{basis} {_MANNERS[digest % len(_MANNERS)]}"


_MANNERS = (
    "Answer in a few words taken from the context.",
    "Quote the sentence of the context that answers.",
    "Use only what the context says.",
    "Be concise: give the name or the figure and nothing else.",
)

_BY_NAME: tuple[tuple[re.Pattern[str], Callable[[Material], str]], ...] = tuple(
    (re.compile(pattern), make)
    for pattern, make in (
        (r"reasoning|rationale|thought|explanation|justification", reasoning),
        (r"instruction", instruction),
        (r"(?:^|_)quer(?:y|ies)$|search_terms", query),
        (r"tldr|gist", gist),
        (r"summary|summari|abstract", summary),
        (r"translat", translation),
        (r"^(?:place|location|city|town|country)$", place),
        (r"(?:^|_)(?:code|function|program|script|implementation)$", code),
        (r"title|headline|subject|topic", title),
    )
)
