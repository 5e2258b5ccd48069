"""Choosing a model from the environment, and deciding when to try again."""

from __future__ import annotations

import msgspec
import pytest

from dspex_bus.errors import all_errors
from dspex_services.lm import LMAuth, LMBadRequest, LMConfig, LMError, LMRateLimited, LMTimeout, LMUnavailable
from dspex_services.lm.retry import delay_before_retry


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        ({"OPENAI_API_KEY": "", "DSPEX_MODEL": ""}, None),
        ({"OPENAI_API_KEY": "k"}, ("openai/gpt-4o-mini", None)),
        ({"ANTHROPIC_API_KEY": "k"}, ("anthropic/claude-haiku-4-5", None)),
        ({"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}, ("openai/gpt-4o-mini", None)),
        ({"OPENAI_BASE_URL": "http://o/v1"}, ("openai/gpt-4o-mini", "http://o/v1")),
        ({"DSPEX_BASE_URL": "http://d/v1"}, ("openai/gpt-4o-mini", "http://d/v1")),
        ({"DSPEX_MODEL": "openai/llama", "DSPEX_BASE_URL": "http://d"}, ("openai/llama", "http://d")),
        ({"DSPEX_MODEL": "anthropic/c", "OPENAI_API_KEY": "k"}, ("anthropic/c", None)),
        ({"DSPEX_MODEL": "anthropic/c", "OPENAI_BASE_URL": "http://o"}, ("anthropic/c", None)),
        ({"DSPEX_MODEL": "anthropic/c", "ANTHROPIC_BASE_URL": "http://a"}, ("anthropic/c", "http://a")),
        ({"DSPEX_BASE_URL": "http://d", "OPENAI_BASE_URL": "http://o"}, ("openai/gpt-4o-mini", "http://d")),
    ],
)
def test_from_environment(env: dict[str, str], expected: tuple[str, str | None] | None) -> None:
    config = LMConfig.from_environment(env)
    assert (None if config is None else (config.model, config.base_url)) == expected


def test_a_configuration_that_travels_holds_no_key() -> None:
    config = LMConfig.from_environment({"OPENAI_API_KEY": "sk-secret"})
    assert b"sk-secret" not in msgspec.json.encode(config)


@pytest.mark.parametrize("model", ["", "gpt-4o", "openai/", "mistral/large", "/x"])
def test_a_model_without_a_known_provider_is_refused(model: str) -> None:
    with pytest.raises(LMBadRequest, match="openai/<name>"):
        LMConfig(model=model)


@pytest.mark.parametrize(
    "wrong",
    [{"base_url": "localhost:1"}, {"timeout_s": 0}, {"max_attempts": 0}, {"max_connections": 0}, {"max_tokens": 0}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(LMBadRequest):
        LMConfig(**wrong)  # type: ignore[arg-type]


def test_model_names_may_hold_slashes() -> None:
    config = LMConfig(model="openai/meta-llama/Llama-3")
    assert (config.provider, config.model_name) == ("openai", "meta-llama/Llama-3")


CONFIG = LMConfig(max_attempts=3, backoff_s=1.0)


def delay(error: LMError, *, attempt: int = 1, left_s: float = 100.0, dice: float = 0.0) -> float | None:
    return delay_before_retry(CONFIG, error, attempt=attempt, left_s=left_s, dice=dice)


def test_back_off_doubles_and_jitters_between_half_and_whole() -> None:
    assert [delay(LMUnavailable("x"), attempt=n, dice=0.0) for n in (1, 2)] == [0.5, 1.0]
    assert [delay(LMUnavailable("x"), attempt=n, dice=1.0) for n in (1, 2)] == [1.0, 2.0]


def test_attempts_are_bounded() -> None:
    assert delay(LMUnavailable("x"), attempt=3) is None


def test_retry_after_is_honoured_exactly() -> None:
    assert delay(LMRateLimited("x", details={"retry_after_s": 7})) == 7
    assert delay(LMRateLimited("x", details={"retry_after_s": 0})) == 0


def test_no_wait_past_the_deadline() -> None:
    assert delay(LMRateLimited("x", details={"retry_after_s": 7}), left_s=7.0) is None
    assert delay(LMUnavailable("x"), left_s=0.1) is None


@pytest.mark.parametrize("error", [LMAuth("x"), LMBadRequest("x"), LMTimeout("x")])
def test_what_another_attempt_cannot_mend_is_not_tried_again(error: LMError) -> None:
    assert delay(error) is None


def test_codes_lead_back_to_their_errors() -> None:
    codes = ("lm_rate_limited", "lm_unavailable", "lm_timeout", "lm_auth", "lm_bad_request", "lm_bad_reply")
    assert all(issubclass(all_errors()[code], LMError) for code in codes)
