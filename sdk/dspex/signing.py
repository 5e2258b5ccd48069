"""Signatures in any form that Python has, DSPy's classes among them, and what of them travels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from dspex_bus.signatures import Signature

SignatureForm: TypeAlias = "Signature | str | Mapping[str, Any] | type"

_NAMES = ("signature", "spec")
"""Constants of handlers that are signatures."""
_OURS = "dspex_bus.signatures.signature"


def signature(form: SignatureForm, instructions: str | None = None) -> Signature:
    """The signature that ``form`` spells out: a text, a class with ``Input[…]`` and ``Output[…]``, plain data, or a
    ``dspy.Signature``. Raises SignatureError."""
    from dspex_bus.signatures import signature_of

    return signature_of(_ours(form), instructions)


def _ours(form: Any) -> Any:
    """Of a ``dspy.Signature`` ours. Without looking into DSPy, which who has no such class need not have."""
    if not (isinstance(form, type) and hasattr(form, "input_fields") and hasattr(form, "output_fields")):
        return form
    from dspex_bus.signatures import SignatureError
    from dspex_services.dspy.signatures import from_dspy

    converted = from_dspy(form)
    if converted.types:
        raise SignatureError(
            f"types with code of their own cannot travel: {', '.join(converted.types)}",
            text=converted.signature.text,
            suggestion="use types that are fields and nothing else, or serve a module of your own that uses these",
        )
    return converted.signature


def signed(form: SignatureForm, name: str = "signature") -> dict[str, Any]:
    """The constants of a step that say it."""
    if isinstance(form, str):
        return {name: form}
    found = signature(form)
    return {name: found.text} | ({"instructions": found.instructions} if found.instructions else {})


def sendable(constants: dict[str, Any]) -> dict[str, Any]:
    """Constants with signatures in a form that travels; those that do already stay as they are written."""
    for name in _NAMES:
        form: Any = constants.get(name)
        if isinstance(form, type) or type(form).__module__ == _OURS:
            constants = {**signed(form, name), **{key: said for key, said in constants.items() if key != name}}
    return constants
