"""Conditions that a predictor's outputs must meet, and what the model is told where they do not."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from dspex_bus.errors import InvalidRequest

from ..errors import StepError
from .errors import ReplyError

_KEPT = 20_000


class Assertion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``that`` is a CEL expression over the signature's inputs and outputs: ``size(answer) < 200``. ``say`` is what the
    model is told where it does not hold; without it, the expression."""

    that: str
    say: str = ""


class Broken(NamedTuple):
    """What does not hold: an expression, or a field's own limits, and what is said of it."""

    that: str
    say: str


class AssertionFailed(StepError):
    """``details``: ``failed`` (each with ``that`` and ``say``), ``outputs`` as far as they could be read, ``raw`` (what
    the model said) and ``tries``."""

    code = "assertion_failed"
    status = 422


def assertions(given: Sequence[str | Assertion], fields: Collection[str]) -> tuple[Assertion, ...]:
    """Raises InvalidRequest ``invalid_condition`` for what is no condition, or not about the signature's fields."""
    # Here, since its library costs more than most workers' whole start.
    from dspex_bus.conditions import ConditionError, goes_through_a_list, names

    made = tuple(Assertion(that=one) if isinstance(one, str) else one for one in given)
    for one in made:
        try:
            unknown = sorted(names(one.that).difference(fields))
        except ConditionError as error:
            raise InvalidRequest(f"assert: {error}", code="invalid_condition") from error
        if unknown and not goes_through_a_list(one.that):  # whose names come from the condition itself
            raise InvalidRequest(
                f"assert: {one.that!r} needs the field {unknown[0]!r}; there are: {', '.join(sorted(fields))}",
                code="invalid_condition",
            )
    return made


def broken(wanted: Iterable[Assertion], values: Mapping[str, Any]) -> list[Broken]:
    from dspex_bus.conditions import ConditionError, holds

    plain: dict[str, Any] = msgspec.to_builtins(values, str_keys=True)
    found: list[Broken] = []
    for one in wanted:
        try:
            if holds(one.that, lambda name: plain.get(name, _MISSING), _MISSING):
                continue
            said = one.say or f"this must be true: {one.that}"
        except ConditionError as error:
            said = f"{one.say or one.that} ({error})"
        found.append(Broken(one.that, said))
    return found


_MISSING = object()


def broken_limits(error: ReplyError) -> list[Broken]:
    return [
        *(Broken(name, f"the field `{name}` is missing") for name in error.missing),
        *(Broken(name, f"the field `{name}`: {why}") for name, why in error.faults.items()),
    ]


def feedback(raw: str, wrong: Sequence[Broken], request: str) -> list[dict[str, Any]]:
    """The turns that tell the model what was wrong with its reply."""
    listed = "\n".join(f"- {one.say}" for one in wrong)
    told = f"This answer is not good enough:\n{listed}\n\nAnswer again, with every field. {request}"
    return [{"role": "assistant", "content": raw}, {"role": "user", "content": told}]


def failed(wrong: Sequence[Broken], outputs: Mapping[str, Any], raw: str, tries: int) -> AssertionFailed:
    said = "; ".join(one.say for one in wrong)
    times = "at the only try" if tries == 1 else f"after {tries} tries"
    return AssertionFailed(
        f"the outputs are not what was asked for, {times}: {said}",
        details={
            "failed": [one._asdict() for one in wrong],
            "outputs": msgspec.to_builtins(dict(outputs), str_keys=True),
            "raw": raw[:_KEPT],
            "tries": tries,
        },
    )
