"""How far models are held to JSON: as DSPy takes them."""

from __future__ import annotations

import os

import pytest

from dspex_services.lm import LMConfig, json_replies

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

OTHERWISE = {"openai/computer-use-preview": "none", "openai/daybreak": "none", "openai/gpt-daybreak": "none"}
"""What DSPy knows of that no name tells: what they begin with."""


def test_the_operator_s_word_wins() -> None:
    assert json_replies(LMConfig(model="openai/gpt-4o", json_replies="none")) == "none"
    assert json_replies(LMConfig(model="openai/mine", json_replies="schema")) == "schema"


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_every_model_that_dspy_knows_is_taken_for_what_dspy_takes_it(provider: str) -> None:
    dspy = pytest.importorskip("dspy")
    from dspy.clients import model_metadata

    known = 0
    for name, entry in model_metadata._load().items():
        if not isinstance(entry, dict) or entry.get("litellm_provider") != provider or entry.get("mode") != "chat":
            continue
        model = f"{provider}/{name.removeprefix(f'{provider}/')}"
        if any(model.startswith(other) for other in OTHERWISE):
            continue
        lm = dspy.LM(model, api_key="k", temperature=1.0, max_tokens=20_000)
        wanted = "none"
        if "response_format" in lm.supported_params:
            wanted = "schema" if lm.supports_response_schema else "object"
        assert json_replies(LMConfig(model=model)) == wanted, model
        known += 1
    assert known > 10


def test_a_model_nobody_knows_is_asked_in_words() -> None:
    for model in ("openai/llama3.1", "openai/offline", "anthropic/claude-3-5-sonnet-20241022", "openai/o1x"):
        assert json_replies(LMConfig(model=model)) == "none", model
