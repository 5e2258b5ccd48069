"""Large inputs by reference: ``{"$object": name, "media_type": "image/png"}`` stands for what the object store keeps.

The worker that needs it puts the content in its place, so that images, files and long histories travel once and not
with every message: a data URI where a picture or a file is wanted, elsewhere the text or the JSON that it is."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from typing import Any

import msgspec

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
_DEEPEST = 3
"""References in what references name."""

_CONTAINED = {b"WAVE": "audio/wav", b"WEBP": "image/webp"}


async def attached(bus: Bus, data: bytes, media_type: str | None = None) -> dict[str, str]:
    """Keep the data under its digest; the reference to it."""
    name, objects = hashlib.sha256(data).hexdigest(), bus.objects(OBJECTS)
    if await objects.get(name) is None:
        await objects.put(name, data)
    return {REFERENCE: name, "media_type": media_type or media_type_of(data)}


async def resolved(value: Any, bus: Bus, files: Collection[str] = ()) -> Any:
    """The value with every reference in it replaced by what it names. What is under one of the names ``files`` becomes
    a data URI. Raises InvalidInput where there is none."""
    return await _resolve(value, bus, files, False, 0)


async def _resolve(value: Any, bus: Bus, files: Collection[str], is_file: bool, depth: int) -> Any:
    if isinstance(value, list):
        return [await _resolve(item, bus, files, is_file, depth) for item in value]
    if not isinstance(value, dict):
        return value
    if REFERENCE not in value:
        return {name: await _resolve(item, bus, files, is_file or name in files, depth) for name, item in value.items()}
    name = str(value[REFERENCE])
    # The bodies of large messages are kept there too, and are not for whoever knows their names.
    data = None if split_object(name) is not None else await bus.objects(OBJECTS).get(name)
    if data is None or depth > _DEEPEST:
        raise InvalidInput(f"there is no object {name!r} in the store", code="unknown_object", details={"object": name})
    kind = value.get("media_type") or media_type_of(data)
    found = None if is_file else _read(data, kind)
    if found is None:
        return f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return await _resolve(found, bus, files, is_file, depth + 1)


def _read(data: bytes, kind: str) -> Any:
    """None for what is neither text nor JSON."""
    try:
        if kind == "application/json":
            return msgspec.json.decode(data)
        return data.decode() if kind.startswith("text/") else None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"the object is no {kind}: {error}") from error


def media_type_of(data: bytes) -> str:
    """What the first bytes say: models refuse what they are not told the kind of."""
    if data[:4] == b"RIFF":
        return _CONTAINED.get(data[8:12], _ANYTHING)
    found = next((kind for beginning, kind in _BEGINNINGS if data.startswith(beginning)), None)
    return found or _kind_of_text(data)


def _kind_of_text(data: bytes) -> str:
    try:
        text = data.decode().lstrip()
    except UnicodeDecodeError:
        return _ANYTHING
    if not text.startswith(("{", "[")):
        return "text/plain"
    try:
        msgspec.json.decode(data)
    except msgspec.DecodeError:
        return "text/plain"
    return "application/json"
