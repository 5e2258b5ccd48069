"""DSPy's saved states, as ``Module.save("x.json")`` writes them and ``Module.load`` reads them.

Pickles are refused: loading one runs whatever it says. Addresses, headers and keys of models are left out of what is
kept: they belong to the pool that runs the program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dspex_bus.errors import InvalidRequest

METADATA = "metadata"
_OF_PROGRAMS = frozenset(
    (
        *("_dspy_lm_class", "model", "model_type", "cache", "num_retries", "finetuning_model", "use_developer_role"),
        *("temperature", "max_tokens", "max_completion_tokens", "top_p", "top_k", "stop", "seed", "n", "rollout_id"),
        *("presence_penalty", "frequency_penalty", "reasoning_effort"),
    )
)
"""What is kept of a predictor's model. Whatever else there is may be an address or somebody's key."""

_canonical = msgspec.json.Encoder(order="deterministic")


def encoded(state: Mapping[str, Any]) -> bytes:
    """The state's bytes: equal states give the same, and so the same digest."""
    return _canonical.encode(clean(state))


def decoded(data: bytes, *, source: str) -> dict[str, Any]:
    """The state in JSON. Raises InvalidRequest (``invalid_program``) where it is none."""
    try:
        state = msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise _invalid(source, f"not JSON: {error}") from error
    if not isinstance(state, dict):
        raise _invalid(source, "a program's state is an object")
    for name, predictor in predictors(state).items():
        if not isinstance(predictor, dict):
            raise _invalid(source, f"{name} is not the state of a predictor")
    if not predictors(state):
        raise _invalid(source, "it holds no predictor")
    return state


def predictors(state: Mapping[str, Any]) -> dict[str, Any]:
    """Each predictor's state by its name. A bare ``Predict`` saves its own state alone; it is called ``self``."""
    content = {name: value for name, value in state.items() if name != METADATA}
    return {"self": content} if {"signature", "demos"} <= content.keys() else content


def dspy_version(state: Mapping[str, Any]) -> str:
    versions = state.get(METADATA, {}).get("dependency_versions", {})
    return str(versions.get("dspy", "")) if isinstance(versions, dict) else ""


def clean(state: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is the operator's of each predictor's model."""
    cleaned = {name: _without_secrets(value) for name, value in predictors(state).items()}
    content = cleaned["self"] if "signature" in state else cleaned
    return {**content, METADATA: state[METADATA]} if METADATA in state else content


def _without_secrets(predictor: Any) -> Any:
    if not isinstance(predictor, Mapping) or not isinstance(predictor.get("lm"), Mapping):
        return predictor
    lm = {key: value for key, value in predictor["lm"].items() if key in _OF_PROGRAMS or value in (None, {}, [])}
    return {**predictor, "lm": lm}


def from_file(path: str | Path) -> dict[str, Any]:
    """The state in a file that DSPy's ``save`` wrote. Raises InvalidRequest."""
    file = Path(path)
    if file.is_dir() or file.suffix in (".pkl", ".pickle"):
        raise InvalidRequest(
            f"{file} is a pickle, which runs code when it is loaded; save the program's state as JSON: "
            'program.save("program.json")',
            code="pickle_refused",
        )
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"cannot read {file}: {error}", code="file_unreadable") from error
    return decoded(data, source=str(file))


def to_file(state: Mapping[str, Any], path: str | Path) -> None:
    """A file that ``dspy.Module.load`` reads."""
    Path(path).write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")


def _invalid(source: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"{source} is no DSPy program: {why}", code="invalid_program")
