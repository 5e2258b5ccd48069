"""What the offline LM makes of pictures, recordings and documents: sentences, as functions of their bytes. Pure."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import wave
import zlib
from collections.abc import Mapping
from typing import Any

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""By a PNG's type of colour; palettes are not looked at."""

_PALETTE = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "grey": (128, 128, 128),
    "red": (255, 0, 0),
    "green": (0, 160, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "orange": (255, 140, 0),
    "purple": (150, 0, 200),
}


def told(part: Mapping[str, Any]) -> str:
    """The text of one content part, of either protocol."""
    match part.get("type"):
        case "image_url":
            url = part["image_url"]
            return _picture(url if isinstance(url, str) else str(url["url"]))
        case "image":
            return _picture(_address(part["source"]))
        case "input_audio":
            sound = part["input_audio"]
            return _recording(_bytes(str(sound["data"])), str(sound.get("format", "")))
        case "file":
            return _document(str(part["file"].get("file_data") or ""))
        case "document":
            return _document(_address(part["source"]))
        case _:
            return str(part.get("text", ""))


def _address(source: Mapping[str, Any]) -> str:
    """Anthropic's source as an address or a data URI."""
    if source["type"] == "url":
        return str(source["url"])
    if source["type"] == "text":
        return f"data:text/plain;base64,{base64.b64encode(str(source['data']).encode()).decode()}"
    return f"data:{source['media_type']};base64,{source['data']}"


def _picture(url: str) -> str:
    if not url.startswith("data:"):
        return f"The picture is at {url} and was not fetched."
    kind, data = _data(url)
    seen = _seen(data) if data.startswith(_SIGNATURE) else None
    if seen is None:
        return f"The picture is {kind} of {len(data)} bytes."
    width, height, colour = seen
    return f"The picture is {width} pixels wide and {height} pixels high, and its colour is {colour}."


def _recording(data: bytes, kind: str) -> str:
    try:
        with wave.open(io.BytesIO(data)) as sound:
            seconds = sound.getnframes() / sound.getframerate()
            return f"The recording lasts {seconds:g} seconds at {sound.getframerate()} samples a second."
    except (wave.Error, EOFError, ZeroDivisionError):
        return f"The recording is {kind} of {len(data)} bytes."


def _document(url: str) -> str:
    if not url.startswith("data:"):
        return f"The document is at {url} and was not fetched."
    kind, data = _data(url)
    return (
        data.decode(errors="replace") if kind.startswith("text/") else f"The document is {kind} of {len(data)} bytes."
    )


def _data(url: str) -> tuple[str, bytes]:
    head, _, data = url.removeprefix("data:").partition(",")
    return head.partition(";")[0], _bytes(data)


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:
        return b""


def _seen(png: bytes) -> tuple[int, int, str] | None:
    """Width, height and the colour nearest to the mean; None for what is no plain PNG of eight bits."""
    try:
        width, height, depth, colours, _, _, interlaced = struct.unpack_from(">IIBBBBB", png, 16)
        if depth != 8 or interlaced or colours not in _CHANNELS:
            return None
        rows = _rows(zlib.decompress(_pixels(png)), width * _CHANNELS[colours], _CHANNELS[colours])
    except (struct.error, zlib.error, IndexError):
        return None
    return width, height, _named(b"".join(rows), _CHANNELS[colours])


def _pixels(png: bytes) -> bytes:
    found, at = [], len(_SIGNATURE)
    while at < len(png):
        length, kind = struct.unpack_from(">I4s", png, at)
        if kind == b"IDAT":
            found.append(png[at + 8 : at + 8 + length])
        at += length + 12
    return b"".join(found)


def _rows(packed: bytes, size: int, channels: int) -> list[bytes]:
    """The lines of pixels, each freed of its filter."""
    rows: list[bytes] = []
    above = bytes(size)
    for at in range(0, len(packed), size + 1):
        row = bytearray(packed[at + 1 : at + 1 + size])
        for place, value in enumerate(row):
            left = row[place - channels] if place >= channels else 0
            corner = above[place - channels] if place >= channels else 0
            row[place] = (value + _guess(packed[at], left, above[place], corner)) % 256
        above = bytes(row)
        rows.append(above)
    return rows


def _guess(kind: int, left: int, up: int, corner: int) -> int:
    if kind != 4:
        return (0, left, up, (left + up) // 2)[kind]
    near = left + up - corner
    return min((left, up, corner), key=lambda one: abs(near - one))


def _named(pixels: bytes, channels: int) -> str:
    count = max(1, len(pixels) // channels)
    places = (0, 1, 2) if channels >= 3 else (0, 0, 0)
    mean = [sum(pixels[place::channels]) / count for place in places]
    return min(_PALETTE, key=lambda name: sum((a - b) ** 2 for a, b in zip(_PALETTE[name], mean, strict=True)))
