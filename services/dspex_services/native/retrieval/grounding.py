"""Answering from passages, the same for both implementations: what is asked of the model, and what is made of its
reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from dspex_bus.errors import InvalidRequest
from dspex_bus.signatures import (
    Field,
    InvalidFields,
    Signature,
    SignatureError,
    made_of,
    parse_signature,
    parse_type,
    read_signature,
)

from .library import Manner
from .passages import Passage

CONTEXT = "context"
CITATIONS = "citations"
PASSAGES = "passages"

INSTRUCTIONS = (
    "Answer from the passages in `context` and from nothing else. Where they do not answer, say so. In `citations` "
    "give the numbers of the passages that the answer rests on, counted from 1; write no such numbers into the answer."
)


class Search(Manner, frozen=True, kw_only=True):
    """Where to look: in ``folder``, or in the documents (texts, or one) that the signature's input ``over`` holds, and
    which the model is not shown as a whole. ``query`` is the input that is searched for; the first one that is not
    ``over`` where it is not said. ``method`` is ``hybrid``, ``keyword`` or ``vector``."""

    folder: str | None = None
    over: str | None = None
    query: str | None = None
    k: Annotated[int, msgspec.Meta(ge=1, le=100)] = 5


class Grounded(msgspec.Struct, frozen=True, kw_only=True):
    """``query`` and ``over`` are inputs of the step; ``signature`` is what the model is asked."""

    signature: Signature
    query: str
    over: str | None = None

    def queries(self, inputs: Mapping[str, Any]) -> list[str]:
        value = inputs.get(self.query)
        return [str(one) for one in value] if isinstance(value, list) else [] if value is None else [str(value)]

    def documents(self, inputs: Mapping[str, Any]) -> list[Any] | None:
        if self.over is None:
            return None
        value = inputs.get(self.over)
        return value if isinstance(value, list) else [] if value is None else [value]

    def shown(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs that the model is shown besides the passages."""
        return {name: value for name, value in inputs.items() if name != self.over}

    def asked(self, inputs: Mapping[str, Any], passages: Sequence[str]) -> dict[str, Any]:
        """The inputs that the model is shown. Raises InvalidFields where one has the place of the passages."""
        if CONTEXT in inputs:
            raise InvalidFields(
                "inputs", faults={CONTEXT: "the signature has no such field; the passages are put there"}
            )
        return {CONTEXT: list(passages), **self.shown(inputs)}

    @property
    def told(self) -> Signature:
        """The signature without the passages."""
        inputs = tuple(field for field in self.signature.inputs if field.name != CONTEXT)
        return Signature(inputs, self.signature.outputs, self.signature.instructions)


def grounded(signature: str | dict[str, Any], instructions: str | None, search: Search) -> Grounded:
    """What to ask for a signature's outputs with passages at hand. Raises SignatureError, InvalidRequest."""
    if isinstance(signature, str):
        return _grounded(signature, instructions, search.query, search.over)
    found = read_signature(signature, instructions)
    return _made(found, search.query, search.over)


@lru_cache(maxsize=1024)
def _grounded(signature: str, instructions: str | None, query: str | None, over: str | None) -> Grounded:
    return _made(parse_signature(signature, instructions), query, over)


def _made(given: Signature, query: str | None, over: str | None) -> Grounded:
    if CONTEXT in given.input_names:
        raise SignatureError(f"rag adds an input {CONTEXT!r}, and there is one of that name", text=given.text)
    for what, name in (("query", query), ("over", over)):
        if name is not None and name not in given.input_names:
            raise InvalidRequest(
                f"search.{what} is {name!r}; the signature's inputs are: {', '.join(given.input_names)}",
                code="invalid_input",
            )
    asked = tuple(field for field in given.inputs if field.name != over)
    if not asked:
        raise InvalidRequest("besides the documents the signature needs an input to ask about", code="invalid_input")
    inputs = (Field(CONTEXT, parse_type("list[str]")), *asked)
    own = CITATIONS in given.output_names
    outputs = given.outputs if own else (*given.outputs, Field(CITATIONS, parse_type("list[int]")))
    usual = made_of(given.inputs, given.outputs, None).instructions
    said = INSTRUCTIONS if given.instructions == usual else given.instructions
    return Grounded(signature=Signature(inputs, outputs, said), query=query or asked[0].name, over=over)


def checked(outputs: Mapping[str, Any], passages: Sequence[Passage]) -> dict[str, Any]:
    """The model's outputs, of its citations those that number a passage."""
    cited = outputs.get(CITATIONS)
    numbers = [number for number in cited if isinstance(number, int)] if isinstance(cited, list) else []
    kept = [number for number in dict.fromkeys(numbers) if 1 <= number <= len(passages)]
    return {**outputs, CITATIONS: kept}
