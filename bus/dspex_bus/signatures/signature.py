"""What a signature is: named, typed inputs and outputs, and instructions for the model."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import msgspec

from .errors import InvalidFields, SignatureError, did_you_mean
from .parser import Names, parse_fields
from .schema import Definitions, schema_of
from .types import STR, Field, foreign_names
from .values import Coercer, Mismatch, coercer

REASONING = "reasoning"
"""The output field that chain of thought fills in first."""


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

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.inputs)

    @cached_property
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
        field that is missing, wrong or unknown. One left out gets its default, or stays out where it has none and is
        optional."""
        return _fit("inputs", self._input_coercers, values, fill=False)

    def coerce_outputs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Like :meth:`validate_inputs` for outputs; an optional field that is left out becomes its default,
        or None, as in DSPy."""
        return _fit("outputs", self._output_coercers, values, fill=True)

    @cached_property
    def _input_coercers(self) -> dict[str, tuple[Coercer | None, Field]]:
        return {f.name: (coercer(f.type) if f.typed else None, f) for f in self.inputs}

    @cached_property
    def _output_coercers(self) -> dict[str, tuple[Coercer | None, Field]]:
        return {f.name: (coercer(f.type), f) for f in self.outputs}

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
    return parse_with(text, instructions, None)


def parse_with(text: str, instructions: str | None, names: Names | None) -> Signature:
    """Like :func:`parse_signature`, not cached, with types of the caller's own by name."""
    inputs, outputs = parse_fields(text, names)
    return made_of(inputs, outputs, instructions)


def made_of(inputs: Sequence[Field], outputs: Sequence[Field], instructions: str | None) -> Signature:
    """The signature with these fields; without instructions, or with empty ones, it gets DSPy's default ones."""
    if not instructions:
        instructions = f"Given the fields {_listed(inputs)}, produce the fields {_listed(outputs)}."
    return Signature(tuple(inputs), tuple(outputs), instructions)


def _listed(fields: Sequence[Field]) -> str:
    return f"`{'`, `'.join([field.name for field in fields])}`"


def _object_schema(fields: Iterable[Field], *, any_when_untyped: bool) -> dict[str, Any]:
    shared: Definitions = {}
    properties: dict[str, Any] = {}
    required = []
    for field in fields:
        schema = {} if any_when_untyped and not field.typed else schema_of(field.type, shared)
        if field.description:
            schema["description"] = field.description
        if field.default is not None:
            schema["default"] = field.default_value
        properties[field.name] = schema
        if not field.optional:
            required.append(field.name)
    found = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return {**found, "$defs": shared} if shared else found


def _fit(
    side: str, coercers: Mapping[str, tuple[Coercer | None, Field]], values: Mapping[str, Any], *, fill: bool
) -> dict[str, Any]:
    fitted: dict[str, Any] = {}
    faults: dict[str, str] = {}
    missing = []
    for name, (convert, field) in coercers.items():
        if name in values:
            value = values[name]
        elif field.default is not None:
            value = field.default_value
        else:
            if not field.optional:
                missing.append(name)
            elif fill:
                fitted[name] = None
            continue
        try:
            fitted[name] = value if convert is None else convert(value)
        except Mismatch as mismatch:
            faults[name] = str(mismatch)
    for name in values:
        if name not in coercers:
            hint = did_you_mean(name, coercers)
            faults[name] = f"the signature has no such field{f'; {hint}' if hint else ''}"
    if faults or missing:
        raise InvalidFields(side, faults=faults, missing=missing)
    return fitted
