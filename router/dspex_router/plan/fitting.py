"""Whether the native implementation of an operation can do what a step wants of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex_bus.signatures import SignatureError, read_signature
from dspex_bus.wire import HandlerInfo


def only_dspy(options: Mapping[str, Any], native: HandlerInfo, dspy: HandlerInfo | None) -> str:
    """Why these constants need DSPy, '' where they do not: its own types in the signature, or what only its handler
    knows. A signature that is none is left to whoever reads it."""
    if native.reads == "signature" and (types := _own_types(options)):
        return f"only DSPy handles {', '.join(types)}"
    if dspy is None or "any" in (native.reads, dspy.reads):
        return ""
    theirs = {*dspy.required, *dspy.optional} - {*native.required, *native.optional}
    wanted = sorted(theirs & set(options))
    return f"only DSPy has {', '.join(map(repr, wanted))}" if wanted else ""


def _own_types(options: Mapping[str, Any]) -> tuple[str, ...]:
    given, instructions = options.get("signature"), options.get("instructions")
    if not isinstance(given, str | dict):
        return ()
    try:
        signature = read_signature(given, instructions if isinstance(instructions, str) else None)
    except SignatureError:
        return ()
    return tuple(dict.fromkeys(signature.foreign))
