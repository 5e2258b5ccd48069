"""Whether a state is that of a signature.

A state holds texts for fields by their place and not their names: DSPy would give those of one signature to the
fields of any other, without a word."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from dspex_bus.errors import InvalidRequest
from dspex_bus.signatures import parse_signature

from .states import predictors

_PREDICTORS = {"dspy.Predict": ("self", 0), "dspy.ChainOfThought": ("predict", 1)}
"""By module: the predictor whose signature is the module's own, and how many fields the module adds."""


@lru_cache(maxsize=256)
def field_names(signature: str) -> tuple[frozenset[str], frozenset[str]]:
    """Of the inputs, and of the outputs. Raises SignatureError."""
    found = parse_signature(signature)
    return frozenset(field.name for field in found.inputs), frozenset(field.name for field in found.outputs)


def check_asked(made: str | None, asked: str) -> None:
    """A program that was made with one signature is asked with another: types and descriptions may differ, fields may
    not. Raises InvalidRequest (``program_mismatch``)."""
    if made is not None and made != asked and field_names(made) != field_names(asked):
        raise InvalidRequest(
            f"the program was made for the signature {made!r}, and has nothing to say of the fields of {asked!r}",
            code="program_mismatch",
        )


def check_state(state: Mapping[str, Any], module: str, signature: str | None) -> None:
    """Before a file's state is stored as such a module's, with such a signature. Raises InvalidRequest
    (``program_mismatch``), or SignatureError."""
    if signature is None:
        return
    inputs, outputs = field_names(signature)
    if module not in _PREDICTORS:
        return
    name, added = _PREDICTORS[module]
    kept = predictors(state)
    if name not in kept:
        raise _mismatch(f"it holds the predictors {', '.join(kept)}, and {module} has one named {name}")
    fields = kept[name].get("signature", {}).get("fields", ())
    wanted = len(inputs) + len(outputs) + added
    if len(fields) != wanted:
        raise _mismatch(f"it has {len(fields)} fields, and {module} with the signature {signature!r} has {wanted}")
    for demo in kept[name].get("demos", ()):
        if isinstance(demo, Mapping) and not (inputs | outputs) & demo.keys():
            raise _mismatch(f"its demos have the fields {', '.join(demo)}, and none of the signature {signature!r}")


def _mismatch(why: str) -> InvalidRequest:
    return InvalidRequest(f"the program is of another module or signature: {why}", code="program_mismatch")
