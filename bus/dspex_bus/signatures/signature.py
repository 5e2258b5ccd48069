"""What a signature is: named, typed inputs and outputs, and instructions for the model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from typing import Any

import msgspec

from .errors import InvalidFields, SignatureError, did_you_mean
from .parser import ParsedField, parse_fields
from .schema import json_schema
from .types import STR, Type, allows_none, foreign_names, quote
from .values import Coercer, Mismatch, coercer

REASONING = "reasoning"
"""The output field that chain of thought fills in first."""


class Field(msgspec.Struct, frozen=True):
    """``typed`` is whether a type was written. An input without one takes any value, as in DSPy; it is still ``str``
    in the prompt."""

    name: str
    type: Type
    description: str | None = None
    typed: bool = True

    def __str__(self) -> str:
        declared = f"{self.name}: {self.type}" if self.typed else self.name
        return declared if self.description is None else f"{declared} {quote(self.description)}"

    @property
    def optional(self) -> bool:
        """Whether None is allowed, so that the field may be left out."""
        return allows_none(self.type)


class Signature(msgspec.Struct, frozen=True, dict=True):
    """Equal when the fields and the instructions are. ``str(signature)`` is its ``text``.

    ``instructions`` are as they were given; a prompt shows them without their common indentation.
    """

    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    instructions: str

    def __str__(self) -> str:
        return self.text

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.inputs, self.outputs, self.instructions))

    @cached_property
    def text(self) -> str:
        """The canonical string of the fields: ``parse_signature(s.text, s.instructions) == s``."""
        return f"{', '.join(map(str, self.inputs))} -> {', '.join(map(str, self.outputs))}"

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits that stay the same across processes and releases for an equal signature."""
        content = f"{self.text}\0{self.instructions}".encode("utf-8", "surrogatepass")
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.outputs)

    @cached_property
    def foreign(self) -> tuple[str, ...]:
        """The types in it that only DSPy can handle (``dspy.Image``); native steps refuse such a signature."""
        return tuple(name for field in (*self.inputs, *self.outputs) for name in foreign_names(field.type))

    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the inputs, as one object."""
        return _object_schema(self.inputs, any_when_untyped=True)

    def output_schema(self) -> dict[str, Any]:
        """JSON Schema of the outputs, as one object."""
        return _object_schema(self.outputs, any_when_untyped=False)

    def validate_inputs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values with each converted to its field's type, in the order of the fields. InvalidFields names every
        field that is missing, wrong or unknown. An optional field that is left out stays out."""
        return _fit("inputs", self._input_coercers, values, fill=False)

    def coerce_outputs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Like :meth:`validate_inputs` for outputs; an optional field that is left out becomes None, as in DSPy."""
        return _fit("outputs", self._output_coercers, values, fill=True)

    @cached_property
    def _input_coercers(self) -> dict[str, tuple[Coercer | None, bool]]:
        return {f.name: (coercer(f.type) if f.typed else None, f.optional) for f in self.inputs}

    @cached_property
    def _output_coercers(self) -> dict[str, tuple[Coercer | None, bool]]:
        return {f.name: (coercer(f.type), f.optional) for f in self.outputs}

    def with_reasoning(self) -> Signature:
        """The signature for chain of thought: ``reasoning`` is its first output. One that has it already keeps its
        own field, moved to the front. SignatureError when an input has that name."""
        if REASONING in self.input_names:
            raise SignatureError(
                f"chain of thought adds an output {REASONING!r}, and there is an input of that name", text=self.text
            )
        own = next((field for field in self.outputs if field.name == REASONING), Field(REASONING, STR, typed=False))
        rest = tuple(field for field in self.outputs if field.name != REASONING)
        return Signature(self.inputs, (own, *rest), inspect.cleandoc(self.instructions))


@lru_cache(maxsize=4096)
def parse_signature(text: str, instructions: str | None = None) -> Signature:
    """The signature in ``text``. Without instructions, or with empty ones, it gets DSPy's default ones.

    Raises SignatureError. Results are cached, and equal arguments give the same object.
    """
    inputs, outputs = parse_fields(text)
    if not instructions:
        instructions = f"Given the fields {_listed(inputs)}, produce the fields {_listed(outputs)}."
    return Signature(
        tuple([Field(*field) for field in inputs]), tuple([Field(*field) for field in outputs]), instructions
    )


def _listed(fields: list[ParsedField]) -> str:
    return ", ".join([f"`{field[0]}`" for field in fields])


def _object_schema(fields: Iterable[Field], *, any_when_untyped: bool) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    for field in fields:
        schema = {} if any_when_untyped and not field.typed else json_schema(field.type)
        properties[field.name] = schema | ({"description": field.description} if field.description else {})
        if not field.optional:
            required.append(field.name)
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _fit(
    side: str, coercers: Mapping[str, tuple[Coercer | None, bool]], values: Mapping[str, Any], *, fill: bool
) -> dict[str, Any]:
    fitted: dict[str, Any] = {}
    faults: dict[str, str] = {}
    missing = []
    for name, (convert, optional) in coercers.items():
        if name not in values:
            if not optional:
                missing.append(name)
            elif fill:
                fitted[name] = None
            continue
        try:
            fitted[name] = values[name] if convert is None else convert(values[name])
        except Mismatch as mismatch:
            faults[name] = str(mismatch)
    for name in values:
        if name not in coercers:
            hint = did_you_mean(name, coercers)
            faults[name] = f"the signature has no such field{f'; {hint}' if hint else ''}"
    if faults or missing:
        raise InvalidFields(side, faults=faults, missing=missing)
    return fitted
