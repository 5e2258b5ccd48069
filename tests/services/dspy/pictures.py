"""Small pictures, recordings and documents, made here."""

from __future__ import annotations

import io
import struct
import wave
import zlib


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    row = b"\0" + bytes(colour) * width
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * height)),
        (b"IEND", b""),
    )
    made = b"\x89PNG\r\n\x1a\n"
    for kind, data in parts:
        made += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return made


def wav(seconds: float) -> bytes:
    made = io.BytesIO()
    with wave.open(made, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(bytes(int(8000 * seconds)))
    return made.getvalue()


RED = png(4, 2, (250, 10, 10))
BLUE = png(3, 3, (10, 10, 250))
PDF = b"%PDF-1.4 and so on"
