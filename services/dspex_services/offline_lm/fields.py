"""A value for one output field, by its name and type, extracted from what the prompt gives. Never from knowledge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from . import sums, texts
from .material import Material
from .prompt import OutputField
from .schema import Schema, resolve
from .words import keywords, names, places, sentences, terms

_CITATION = re.compile(r"cit(?:e|ation)|source|reference|evidence_ids|passage_ids|doc_ids|indices|indexes")
_QUERY = re.compile(r"quer(?:y|ies)|search_terms|subquestions|sub_questions")
_TAGS = re.compile(
    r"keyword|tag|topic|entit|name|people|person|place|location|cities|countries|towns|organi[sz]ation|concept|term"
)
_SHARE = re.compile(r"confidence|score|relevance|probability|certainty|similarity")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w])")
_DATE = re.compile(r"\b\d{4}-\d{2}-\d{2}\b")
_NEGATION = re.compile(r"\b(?:not|no|never|cannot|without|neither|n't)\b|n't\b", re.IGNORECASE)
_POSITIVE = frozenset(
    terms("good great excellent love loved wonderful happy best amazing fast helpful enjoy perfect thanks")
)
_NEGATIVE = frozenset(
    terms("bad terrible awful hate hated poor sad worst broken slow useless angry crash fail refund wrong")
)
_LIST_LIMIT = 3
_KEYWORD_LIMIT = 8


def value_for(field: OutputField, material: Material) -> Any:
    """A JSON value of the field's type."""
    return _value(field.name.lower(), field.schema, field.schema, material)


def _value(name: str, schema: Schema, root: Schema, material: Material) -> Any:
    schema = resolve(schema, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return _choice(schema["enum"], material)
    make = _BY_TYPE.get(str(schema.get("type", "")))
    return make(name, schema, root, material) if make else texts.text_for(name, material)


def _string(name: str, schema: Schema, root: Schema, material: Material) -> str:
    if schema.get("format") in ("date", "date-time"):
        found = _DATE.search(material.everything)
        day = found.group() if found else "1970-01-01"
        return day if schema["format"] == "date" else f"{day}T00:00:00Z"
    return texts.text_for(name, material)


def _number(name: str, schema: Schema, root: Schema, material: Material) -> int | float:
    value: int | float | None = sums.solve(material.question or material.everything)
    if value is None and _SHARE.search(name):
        value = round(_coverage(material) * float(schema.get("maximum", 1)), 2)
    if value is None:
        value = _first_number(material)
    value = max(value, schema.get("minimum", value))
    value = min(value, schema.get("maximum", value))
    return int(value) if schema["type"] == "integer" else float(value)


def _first_number(material: Material) -> int | float:
    for text in [*(one.sentence for one in material.evidence), material.everything]:
        if found := _NUMBER.search(text):
            return float(found.group().replace(",", ""))
    return 0


def _boolean(name: str, schema: Schema, root: Schema, material: Material) -> bool:
    """Whether the passages bear the statement out: its words are there and the negations agree."""
    if not material.evidence:
        return False
    agrees = bool(_NEGATION.search(material.question)) == bool(_NEGATION.search(material.evidence[0].sentence))
    return agrees and _coverage(material) >= 0.5


def _coverage(material: Material) -> float:
    """The share of the question's words that the evidence holds."""
    wanted = set(terms(material.question))
    held = {term for one in material.evidence for term in one.matched}
    return len(held & wanted) / len(wanted) if wanted else 0.0


def _choice(options: list[Any], material: Material) -> Any:
    """The option whose words the text uses most, the question above all; mood words settle positive and negative."""
    told = [material.everything, *[material.question] * 2, *(one.sentence for one in material.evidence)]
    counts = Counter(terms("\n".join(told)))

    def closeness(option: Any) -> float:
        own = set(terms(str(option).replace("_", " ")))
        return sum(min(counts[term], 5) for term in own) / (len(own) or 1) + _mood(str(option).lower(), counts)

    return max(options, key=closeness)


def _mood(option: str, counts: Counter[str]) -> float:
    mood = sum(counts[term] for term in _POSITIVE) - sum(counts[term] for term in _NEGATIVE)
    lean = {"posit": 1, "negat": -1}.get(option[:5], 0)
    return 0.5 * (option in ("neutral", "mixed")) if mood == 0 else 0.5 * lean * mood


def _list(name: str, schema: Schema, root: Schema, material: Material) -> list[Any]:
    item = resolve(schema.get("items", {"type": "string"}), root)
    kind = item.get("type", "string")
    if "enum" in item:
        return [_choice(item["enum"], material)]
    if _CITATION.search(name) and kind in ("string", "integer"):
        return _citations(material, numbers=kind == "integer")
    if kind == "string":
        return _strings(name, material)[: schema.get("maxItems", _KEYWORD_LIMIT)]
    if kind in ("integer", "number"):
        found = [float(number.replace(",", "")) for number in _NUMBER.findall(material.everything)]
        return [int(one) for one in found] if kind == "integer" else list(found)
    return [_value(name, item, root, material)]


def _citations(material: Material, *, numbers: bool) -> list[Any]:
    """The passages that the answer was taken from: their numbers, from 1, or their names."""
    used = dict.fromkeys(one.passage for one in material.evidence)
    return [index + 1 if numbers else material.name_of(index) for index in used]


def _strings(name: str, material: Material) -> list[str]:
    if _QUERY.search(name):
        return texts.queries(material)
    if _TAGS.search(name):
        text = "\n\n".join(passage.text for passage in material.passages) or material.everything
        return _named(name, text) or keywords(text, _KEYWORD_LIMIT)
    if material.evidence:
        return [one.sentence for one in material.evidence]
    return sentences(material.everything)[:_LIST_LIMIT]


def _named(name: str, text: str) -> list[str]:
    """The text's names of the kind that the field's name says."""
    if "keyword" in name or "term" in name:
        return []
    if re.search(r"place|location|cit(?:y|ies)|countr|town", name):
        return places(text)
    if re.search(r"people|person", name):
        elsewhere = places(text)
        return [one for one in names(text) if one not in elsewhere]
    return names(text)


def _object(name: str, schema: Schema, root: Schema, material: Material) -> dict[str, Any]:
    """Each declared property; of an open mapping the main words with their counts or sentences."""
    declared = schema.get("properties")
    if declared is not None:
        return {key: _value(key.lower(), part, root, material) for key, part in declared.items()}
    extra = schema.get("additionalProperties")
    kind = extra.get("type") if isinstance(extra, dict) else None
    counts = Counter(terms(material.everything))
    found = keywords(material.everything, _LIST_LIMIT)
    if kind in ("integer", "number"):
        return {word: counts[terms(word)[0]] for word in found if terms(word)}
    return {word: _sentence_with(word, material) for word in found} if kind == "string" else {}


def _sentence_with(word: str, material: Material) -> str:
    return next((one for one in sentences(material.everything) if word in one), word)


_BY_TYPE: dict[str, Callable[[str, Schema, Schema, Material], Any]] = {
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": _boolean,
    "array": _list,
    "object": _object,
    "null": lambda name, schema, root, material: None,
}
