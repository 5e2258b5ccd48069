"""A chat server that costs almost nothing: every request gets the same reply, so that a benchmark measures its client.

    python benchmarks/responder.py REPLY_FILE [SECONDS]

With SECONDS it takes that long over each answer. Prints the port it listens on (loopback) and serves until its standard
input closes.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import cast

from timing import run_loop


def canned(text: str) -> bytes:
    """The whole HTTP answer, head and body."""
    completion = {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "canned",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120},
    }
    body = json.dumps(completion).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


class Responder(asyncio.Protocol):
    """Answers once a request is whole; the length of its body is all that it reads."""

    def __init__(self, answer: bytes, takes_s: float = 0.0) -> None:
        self._answer = answer
        self._takes_s = takes_s
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._request_end()) is not None:
            self._buffer = self._buffer[end:]
            if self._takes_s:
                asyncio.get_running_loop().call_later(self._takes_s, self._transport.write, self._answer)
            else:
                self._transport.write(self._answer)

    def _request_end(self) -> int | None:
        head, found, _ = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return None
        _, _, after = head.lower().partition(b"content-length:")
        end = len(head) + 4 + int(after.split(b"\r\n", 1)[0] or 0)
        return end if len(self._buffer) >= end else None


async def serve(text: str, takes_s: float) -> None:
    loop = asyncio.get_running_loop()
    answer = canned(text)
    server = await loop.create_server(lambda: Responder(answer, takes_s), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    run_loop(serve(Path(sys.argv[1]).read_text(), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
