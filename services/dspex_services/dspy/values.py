"""Values on their way into a module and out of it: JSON to what a signature's types want, and predictions to JSON.

An input may be a reference, ``{"$object": name, "media_type": "image/png"}``: the object store's content is put in its
place here, as a data URI, so that images and files travel once and not with every message."""

from __future__ import annotations

import base64
import inspect
import typing
from typing import Any

import dspy
import msgspec
import pydantic

from dspex_bus import Bus
from dspex_bus.streams import OBJECTS
from dspex_bus.subjects import split_object

from ..errors import InvalidInput, StepError

REFERENCE = "$object"
_MEDIA_TYPE = "application/octet-stream"


async def resolved(inputs: dict[str, Any], bus: Bus) -> dict[str, Any]:
    """The inputs with every reference replaced by what it names."""
    return {name: await _resolve(value, bus) for name, value in inputs.items()}


async def _resolve(value: Any, bus: Bus) -> Any:
    if isinstance(value, list):
        return [await _resolve(item, bus) for item in value]
    if not isinstance(value, dict):
        return value
    if REFERENCE not in value:
        return {key: await _resolve(item, bus) for key, item in value.items()}
    name = str(value[REFERENCE])
    # The bodies of large messages are kept there too, and are not for whoever knows their names.
    data = None if split_object(name) is not None else await bus.objects(OBJECTS).get(name)
    if data is None:
        raise InvalidInput(f"there is no object {name!r} in the store", code="unknown_object", details={"object": name})
    return f"data:{value.get('media_type', _MEDIA_TYPE)};base64,{base64.b64encode(data).decode()}"


def typed(signature: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs with DSPy's own types made of their JSON (an image of its address, a history of its messages).
    Raises InvalidInput naming the field."""
    made = dict(inputs)
    for name, field in signature.input_fields.items():
        if name in made and _has_own_type(field.annotation):
            made[name] = _converted(name, field.annotation, made[name])
    return made


def _converted(name: str, annotation: Any, value: Any) -> Any:
    try:
        return pydantic.TypeAdapter(annotation).validate_python(_constructed(annotation, value))
    except (pydantic.ValidationError, ValueError, TypeError) as error:
        raise InvalidInput(f"the field {name!r} is no {annotation}: {error}", details={"field": name}) from error


def _constructed(annotation: Any, value: Any) -> Any:
    """Types that take a bare address or text are made of it; pydantic alone would want an object."""
    arguments = typing.get_args(annotation)
    if isinstance(value, list) and arguments:
        return [_constructed(arguments[0], item) for item in value]
    kinds = [kind for kind in (annotation, *arguments) if inspect.isclass(kind) and issubclass(kind, dspy.Type)]
    make: Any = kinds[0] if kinds and isinstance(value, str) else None
    return value if make is None else make(value)


def _has_own_type(annotation: Any) -> bool:
    if inspect.isclass(annotation) and not typing.get_origin(annotation):
        return issubclass(annotation, pydantic.BaseModel)
    return any(_has_own_type(part) for part in typing.get_args(annotation))


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
