"""What differs between two programs."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.errors import DspexError
from dspex_services.programs import Change, diff, reference


def predictor(instructions: str = "Answer.", demos: list[Any] | None = None, prefix: str = "Q:") -> dict[str, Any]:
    fields = [{"prefix": prefix, "description": "${q}"}, {"prefix": "A:", "description": "${a}"}]
    return {"demos": demos or [], "signature": {"instructions": instructions, "fields": fields}, "lm": None}


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ({"p": predictor()}, {"p": predictor(), "metadata": {"x": 1}}, []),
        (
            {"p": predictor()},
            {"p": predictor("Be brief.")},
            [Change("p", "instructions", "changed", "Answer.", "Be brief.")],
        ),
        (
            {"p": predictor(demos=[{"q": "1"}, {"q": "2"}])},
            {"p": predictor(demos=[{"q": "2"}, {"q": "3"}])},
            [Change("p", "demos", "removed", {"q": "1"}, None), Change("p", "demos", "added", None, {"q": "3"})],
        ),
        (
            {"p": predictor()},
            {"p": predictor(prefix="Ask:")},
            [
                Change(
                    "p",
                    "field 1",
                    "changed",
                    {"prefix": "Q:", "description": "${q}"},
                    {"prefix": "Ask:", "description": "${q}"},
                )
            ],
        ),
        (
            {"p": predictor()},
            {"q": predictor()},
            [
                Change("p", "predictor", "removed", predictor(), None),
                Change("q", "predictor", "added", None, predictor()),
            ],
        ),
        (
            {"p": predictor()},
            {"p": {**predictor(), "lm": {"model": "openai/x"}}},
            [Change("p", "lm", "added", None, {"model": "openai/x"})],
        ),
    ],
)
def test_diff(before: dict[str, Any], after: dict[str, Any], changes: list[Change]) -> None:
    assert diff(before, after) == changes


def test_references() -> None:
    assert reference("qa") == ("qa", "latest")
    assert reference("qa@production") == ("qa", "production")
    assert reference("qa@3") == ("qa", "3")
    digest = "sha256:" + "0" * 64
    assert reference(f"qa@{digest}") == ("qa", digest)
    for wrong in ("", "a.b", "qa@", "qa@sha256:12", "qa@a b", "*"):
        with pytest.raises(DspexError):
            reference(wrong)
