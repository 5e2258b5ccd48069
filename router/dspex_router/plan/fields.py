"""What a step is sent of the context and what it writes to it, as far as that is known before the run."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from dspex_bus.conditions import ConditionError, goes_through_a_list, names
from dspex_bus.errors import InvalidPipeline
from dspex_bus.signatures import Signature, SignatureError, read_signature
from dspex_bus.wire import HandlerInfo, StepDefinition

Fields = frozenset[str] | None
"""The names that may be there; None where any may. What is not among them is missing for certain."""


_HISTORY, _HISTORY_TYPE = "history", "dspy.History"


class Reading(NamedTuple):
    """``sources`` maps each field a step is sent to its path in the context; those in ``optional`` may be absent."""

    sources: dict[str, str]
    optional: tuple[str, ...]


def joined(*some: Fields) -> Fields:
    known = [fields for fields in some if fields is not None]
    return frozenset().union(*known) if len(known) == len(some) else None


def signature_of(step: StepDefinition, info: HandlerInfo, path: str) -> Signature | None:
    """The signature of a step that reads its fields; checked here, so that a bad one never reaches a worker."""
    if info.reads != "signature":
        return None
    given, instructions = step.with_.get("signature"), step.with_.get("instructions")
    if not isinstance(given, str | dict):
        raise InvalidPipeline(
            "the step needs a signature, such as 'question -> answer'",
            path=f"{path}.with.signature",
            code="invalid_signature",
        )
    try:
        return read_signature(given, instructions if isinstance(instructions, str) else None)
    except SignatureError as error:
        raise InvalidPipeline(
            error.message, path=f"{path}.with.signature", code="invalid_signature", details=error.details
        ) from error


def reading_of(step: StepDefinition, info: HandlerInfo, signature: Signature | None, path: str) -> Reading:
    """What the step is sent of the context, its constants left out."""
    if info.reads == "any":
        return Reading(dict(step.inputs), ())
    constants = (*info.required, *info.optional)
    _check_names(step.with_, constants, "constant", info.name, f"{path}.with")
    if signature is None:
        required = [field for field in info.required if field not in step.with_]
        optional = [field for field in info.optional if field not in step.with_]
    else:
        _check_given(step, info, path)
        required = [field.name for field in signature.inputs if not field.optional]
        optional = [field.name for field in signature.inputs if field.optional]
    if step.remember:
        given = _history(signature)
        required = [field for field in required if field not in given]
        optional = [field for field in optional if field not in given]
    _check_names(step.inputs, (*required, *optional), "input", info.name, f"{path}.inputs")
    return Reading(
        {field: step.inputs.get(field, field) for field in (*required, *optional)},
        # An optional field that the step names a source for is wanted, and its absence is an error.
        tuple(field for field in optional if field not in step.inputs),
    )


def _history(signature: Signature | None) -> tuple[str, ...]:
    """What a step that remembers is given, and need not read."""
    if signature is None:
        return (_HISTORY,)
    return tuple(field.name for field in signature.inputs if str(field.type) == _HISTORY_TYPE)


def written_by(step: StepDefinition, info: HandlerInfo, signature: Signature | None, path: str) -> Fields:
    """The context fields a step writes."""
    outputs = info.outputs
    if signature is not None:
        outputs = (*signature.output_names, *(info.outputs or ()))
    if outputs is not None:
        _check_names(step.outputs, outputs, "output", info.name, f"{path}.outputs")
    return renamed(step, outputs, path)


def renamed(step: StepDefinition, outputs: Collection[str] | None, path: str) -> Fields:
    """What outputs become in the context; None where it is not known which there are."""
    if step.save_as is not None:
        return frozenset({step.save_as})
    if outputs is None:
        return None
    writer: dict[str, str] = {}
    for output in outputs:
        field = step.outputs.get(output, output)
        if writer.setdefault(field, output) != output:
            raise InvalidPipeline(
                f"the outputs {writer[field]!r} and {output!r} would both be written to {field!r}",
                path=f"{path}.outputs",
                code="output_conflict",
            )
    return frozenset(writer)


def check_there(reading: Reading, known: Fields, who: str, path: str) -> None:
    """Raises InvalidPipeline where a field that must be there cannot be."""
    for field, source in reading.sources.items():
        name = source.partition(".")[0]
        if known is not None and name not in known and field not in reading.optional:
            raise missing_field(path, who, name, known)


def check_condition(text: str, known: Fields, path: str) -> None:
    """Raises InvalidPipeline where a condition reads a field that cannot be there. One that goes through a list binds
    names of its own, and only the run can tell."""
    if known is not None and not goes_through_a_list(text):
        for name in sorted(names(text) - known):
            raise missing_field(path, "the condition", name, known)


def check_assertions(step: StepDefinition, info: HandlerInfo, signature: Signature | None, path: str) -> None:
    """What a predictor's outputs must meet can only be about the signature's fields."""
    given = step.with_.get("assert")
    if signature is None or not isinstance(given, list):
        return
    known = frozenset((*signature.input_names, *signature.output_names, *(info.outputs or ())))
    for place, one in enumerate(given):
        text = one.get("that") if isinstance(one, dict) else one
        here = f"{path}.with.assert[{place}]"
        try:
            check_condition(str(text), known, here)
        except ConditionError as error:
            raise InvalidPipeline(str(error), path=here, code="invalid_condition") from error


def missing_field(path: str, who: str, field: str, known: frozenset[str]) -> InvalidPipeline:
    return InvalidPipeline(
        f"{who} needs the field {field!r}, which nothing before writes; there are: {_listed(known)}",
        path=path,
        code="missing_field",
        details={"field": field, "known": sorted(known)},
    )


def _check_given(step: StepDefinition, info: HandlerInfo, path: str) -> None:
    """Beside a signature only constants can give what the handler itself requires."""
    for name in info.required:
        if name not in step.with_:
            raise InvalidPipeline(
                f"{info.name} needs the constant {name!r}",
                path=f"{path}.with",
                code="missing_field",
                details={"field": name},
            )


def _check_names(given: Collection[str], known: Collection[str], what: str, handler: str, path: str) -> None:
    for name in given:
        if name not in known:
            raise InvalidPipeline(
                f"{handler} has no {what} {name!r}; there are: {_listed(known)}", path=f"{path}.{name}"
            )


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)) or "none"
