"""Values on their way into a module and out of it: JSON to what a signature's types want, and predictions to JSON."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any

import dspy
import msgspec
import pydantic

from ..errors import InvalidInput, StepError

_SOUNDS = {"mpeg": "mp3", "x-mpeg": "mp3", "vnd.wave": "wav", "wave": "wav"}
"""DSPy takes these two kinds of recordings, by these names."""
_SOUND = re.compile(r"data:audio/([\w.-]+)")


def typed(types: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with DSPy's own types made of their JSON (an image of its address, a history of its messages), those
    in what a history tells included. Raises InvalidInput naming the field."""
    made = dict(inputs)
    for name, annotation in types.items():
        if name in made:
            made[name] = _converted(name, annotation, made[name])
    for name, value in made.items():
        if isinstance(value, dspy.History):
            made[name] = dspy.History(messages=[_message(types, message) for message in value.messages])
    return made


def _message(types: Mapping[str, Any], message: Any) -> Any:
    told = {name: kind for name, kind in types.items() if of_dspy(kind)}
    return typed(told, message) if told.keys() & message.keys() else message


def _converted(name: str, annotation: Any, value: Any) -> Any:
    try:
        return pydantic.TypeAdapter(annotation).validate_python(_constructed(annotation, value))
    except (pydantic.ValidationError, ValueError, TypeError) as error:
        raise InvalidInput(f"the field {name!r} is no {annotation}: {error}", details={"field": name}) from error


def _constructed(annotation: Any, value: Any) -> Any:
    """Types that take a bare address or text are made of it; pydantic alone would want an object."""
    if not of_dspy(annotation):
        return value
    parts = typing.get_args(annotation)
    if not parts:
        return annotation(_spelled(value)) if isinstance(value, str) else _spelled_parts(annotation, value)
    if isinstance(value, dict) and typing.get_origin(annotation) is dict:
        return {name: _constructed(parts[1], item) for name, item in value.items()}
    if isinstance(value, list):
        items = next((typing.get_args(part) for part in parts if typing.get_origin(part) is list), parts)
        return [_constructed(items[0], item) for item in value]
    return value if value is None else _constructed(next(filter(of_dspy, parts)), value)


def _spelled(value: str) -> str:
    return _SOUND.sub(lambda found: f"data:audio/{_SOUNDS.get(found[1], found[1])}", value, count=1)


def _spelled_parts(annotation: Any, value: Any) -> Any:
    """DSPy's own objects, as it can send them: it has no place for a file's name."""
    if not isinstance(value, dict):
        return value
    if annotation is dspy.File and value.get("file_data"):
        return {"file_data": value["file_data"]}
    if annotation is dspy.Audio and "audio_format" in value:
        return {**value, "audio_format": _SOUNDS.get(value["audio_format"], value["audio_format"])}
    return value


def of_dspy(annotation: Any) -> bool:
    """Whether images, files and the like are in it."""
    return _holds(annotation, dspy.Type)


def has_own_type(annotation: Any) -> bool:
    return _holds(annotation, pydantic.BaseModel)


def _holds(annotation: Any, kind: type[Any]) -> bool:
    if inspect.isclass(annotation) and not typing.get_origin(annotation):
        return issubclass(annotation, kind)
    return any(_holds(part, kind) for part in typing.get_args(annotation))


def plain(prediction: Any) -> dict[str, Any]:
    """A prediction's fields, JSON-friendly; pydantic values as objects."""
    values = prediction.toDict() if hasattr(prediction, "toDict") else prediction
    if not isinstance(values, dict):
        raise StepError(
            f"the module answered with {type(prediction).__name__}; it must return a dspy.Prediction or a dict",
            code="invalid_output",
        )
    return msgspec.to_builtins(values, enc_hook=_dump, str_keys=True)  # type: ignore[no-any-return]


def _dump(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "toDict"):
        return value.toDict()
    return str(value)
