"""Our signatures as DSPy's. Strings are parsed by our parser alone: DSPy's imports the modules that a string names."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import dspy

from dspex_bus.signatures import Field, Signature, annotation, parse_signature


@lru_cache(maxsize=1024)
def dspy_signature(text: str, instructions: str | None) -> Any:
    """The ``dspy.Signature`` class for a signature's text. Raises SignatureError."""
    signature = parse_signature(text, instructions)
    return _convert(signature)


def _convert(signature: Signature) -> Any:
    fields = {field.name: (_annotation(field), _field(dspy.InputField, field)) for field in signature.inputs}
    fields |= {field.name: (_annotation(field), _field(dspy.OutputField, field)) for field in signature.outputs}
    return dspy.Signature(fields, signature.instructions)


def _annotation(field: Field) -> Any:
    return annotation(field.type, _foreign) if field.typed else str


def _field(make: Any, field: Field) -> Any:
    return make() if field.description is None else make(desc=field.description)


def _foreign(name: str) -> Any:
    return getattr(dspy, name.removeprefix("dspy."))
