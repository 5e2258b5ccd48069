"""What can be wrong with a signature, or with values for one.

    InvalidRequest
    ├── SignatureError      the text is not a signature; ``position`` and a caret say where
    └── InvalidFields       values do not fit a signature; each field with its reason

All data lives in ``details``, so that an error rebuilt from the wire has the same properties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..errors import InvalidRequest

_SHOWN = 100
"""Columns of the faulty line that an error shows."""


class SignatureError(InvalidRequest):
    """The message is the reason, the faulty line with a caret under the fault, and a suggestion if there is one."""

    code = "invalid_signature"

    def __init__(
        self, reason: str, *, text: str, position: int = 0, length: int = 1, suggestion: str | None = None
    ) -> None:
        line = text.count("\n", 0, position) + 1
        column = position - (text.rfind("\n", 0, position) + 1) + 1
        parts = [f"{reason} (line {line}, column {column})", _caret(text, position, length)]
        if suggestion:
            parts.append(suggestion)
        details = {"reason": reason, "position": position, "line": line, "column": column, "suggestion": suggestion}
        super().__init__("\n".join(parts), details=details)

    @property
    def reason(self) -> str:
        return str(self.details["reason"])

    @property
    def position(self) -> int:
        """Offset of the fault in the text, in characters from 0."""
        return int(self.details["position"])

    @property
    def suggestion(self) -> str | None:
        """What to write instead, as a sentence, or None."""
        value = self.details["suggestion"]
        return None if value is None else str(value)


class InvalidFields(InvalidRequest):
    """``faults`` maps each wrong or unknown field to the reason; ``missing`` lists the fields that are not there."""

    code = "invalid_fields"

    def __init__(self, side: str, *, faults: Mapping[str, str], missing: Iterable[str] = ()) -> None:
        lacking = tuple(missing)
        said = [f"`{name}` is missing" for name in lacking] + [f"`{name}`: {why}" for name, why in faults.items()]
        details = {"faults": dict(faults), "missing": list(lacking)}
        super().__init__(f"the {side} do not fit the signature: {'; '.join(said)}", details=details)

    @property
    def faults(self) -> dict[str, str]:
        return dict(self.details["faults"])

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(self.details["missing"])


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """A suggestion naming the known word nearest to ``word``, or None when none is near."""
    import difflib  # here: a program with no faults needs neither

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None


def _caret(text: str, position: int, length: int) -> str:
    """The line that holds ``position``, cut to a readable width, with a caret under the fault."""
    import unicodedata

    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    start = max(start, position - _SHOWN // 2)
    end = min(end, start + _SHOWN)
    before = "".join("  " if unicodedata.east_asian_width(c) in "WF" else " " for c in text[start:position])
    marks = "^" * max(1, min(length, end - position))
    return f"  {text[start:end].expandtabs(1)}\n  {before}{marks}"
