"""What a module may be given, and what it may answer: by its signature, as the native predictors have it.

DSPy's predictors take some keyword arguments for themselves, and a text among them for a signature, whose names they
import; ``config`` may hold addresses. Inputs come from clients, so none of these may arrive there as an input. What
else does not fit a signature DSPy only warns of in its log."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import dspy
import msgspec

from dspex_bus.signatures import Signature
from dspex_bus.signatures.types import Constrained
from dspex_bus.signatures.values import Mismatch, coercer

from ..errors import InvalidInput, StepError

_TAKEN = frozenset({"self", "signature", "new_signature", "demos", "config", "lm", "completions", "_trace"})
_COUNTED = (dspy.ReAct, dspy.ReActV2, dspy.CodeAct)
"""They take ``max_iters``, too."""


def refuse_taken(module: Any, values: Mapping[str, Any]) -> None:
    """Raises InvalidInput for an input that DSPy would take for one of its own arguments. A name that the module's own
    ``forward`` lists is the module's affair."""
    taken = {name for name in values if name in _TAKEN or _is_prediction(name, values[name])}
    if "max_iters" in values and isinstance(module, _COUNTED):
        taken.add("max_iters")
    for name in sorted(taken.difference(_own_names(module)) if taken else ()):
        raise InvalidInput(
            f"{name!r} cannot be an input here: DSPy takes it for an argument of its own; give the field another name",
            details={"field": name},
        )


def _is_prediction(name: str, value: Any) -> bool:
    """Text that the model is to expect, in OpenAI's form."""
    return name == "prediction" and isinstance(value, Mapping) and value.get("type") == "content"


def _own_names(module: Any) -> Iterable[str]:
    inner = getattr(module, "module", module)
    forward = getattr(type(inner), "forward", inner)  # of the module itself DSPy warns each time
    return [name for name, parameter in _parameters(forward) if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]


def _parameters(function: Any) -> Iterable[tuple[str, inspect.Parameter]]:
    return inspect.signature(function).parameters.items()


def fitted(module: Any, signature: Signature, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values converted to the types of the signature's inputs, its defaults for those left out. What remembers has
    the turns before in a field besides, and some modules have arguments besides. Raises InvalidFields."""
    besides = {
        name: value
        for name, value in values.items()
        if name not in signature.input_names and (isinstance(value, dspy.History) or name in _own_names(module))
    }
    checked = signature.validate_inputs({name: value for name, value in values.items() if name not in besides})
    if isinstance(module, dspy.RLM):  # its sandbox is given plain values
        checked = msgspec.to_builtins(checked, str_keys=True)
    return {**checked, **besides}


def check_limits(signature: Signature, prediction: Mapping[str, Any]) -> None:
    """DSPy tells the model of a field's own limits, and holds it to none. Raises StepError ``reply_malformed``."""
    faults = {}
    for field in signature.outputs:
        value = prediction.get(field.name)
        if isinstance(field.type, Constrained) and value is not None:
            try:
                coercer(field.type)(value)
            except Mismatch as error:
                faults[field.name] = str(error)
    if faults:
        said = "; ".join(f"`{name}`: {why}" for name, why in faults.items())
        raise StepError(
            f"the model's reply is not within the signature's limits: {said}",
            code="reply_malformed",
            retryable=True,
            details={"faults": faults},
        )
