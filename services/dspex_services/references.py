"""Large inputs by reference: ``{"$object": name, "media_type": "image/png"}`` stands for what the object store keeps.

It becomes a data URI in the worker that needs it, so that images and files travel once and not with every message."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from dspex_bus import Bus
from dspex_bus.streams import OBJECTS
from dspex_bus.subjects import split_object

from .errors import InvalidInput

REFERENCE = "$object"
_ANYTHING = "application/octet-stream"
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"ID3", "audio/mp3"),
    (b"\xff\xfb", "audio/mp3"),
)
_CONTAINED = {b"WAVE": "audio/wav", b"WEBP": "image/webp"}


async def attached(bus: Bus, data: bytes, media_type: str | None = None) -> dict[str, str]:
    """Keep the data under its digest; the reference to it."""
    name, objects = hashlib.sha256(data).hexdigest(), bus.objects(OBJECTS)
    if await objects.get(name) is None:
        await objects.put(name, data)
    return {REFERENCE: name, "media_type": media_type or media_type_of(data)}


async def resolved(value: Any, bus: Bus) -> Any:
    """The value with every reference in it replaced by what it names. Raises InvalidInput where there is none."""
    if isinstance(value, list):
        return [await resolved(item, bus) for item in value]
    if not isinstance(value, dict):
        return value
    if REFERENCE not in value:
        return {key: await resolved(item, bus) for key, item in value.items()}
    name = str(value[REFERENCE])
    # The bodies of large messages are kept there too, and are not for whoever knows their names.
    data = None if split_object(name) is not None else await bus.objects(OBJECTS).get(name)
    if data is None:
        raise InvalidInput(f"there is no object {name!r} in the store", code="unknown_object", details={"object": name})
    kind = value.get("media_type") or media_type_of(data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def media_type_of(data: bytes) -> str:
    """What the first bytes say: models refuse what they are not told the kind of."""
    if data[:4] == b"RIFF":
        return _CONTAINED.get(data[8:12], _ANYTHING)
    return next((kind for beginning, kind in _BEGINNINGS if data.startswith(beginning)), _ANYTHING)
