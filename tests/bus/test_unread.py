"""A stream that nobody reads for us: absent, or on a server that is just being stopped or started."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dspex_bus import Message
from dspex_bus.errors import DeadlineExceeded, DspexError, NotFound, Unavailable
from dspex_bus.nats.history import History

pytestmark = pytest.mark.anyio


class Answers:
    """No direct get is answered; ``info`` answers the question for the stream."""

    def __init__(self, info: Any) -> None:
        self._info = info

    async def request(self, subject: str, *_: object) -> Message:
        if subject.startswith("$JS.API.STREAM.INFO"):
            if isinstance(self._info, Exception):
                raise self._info
            return Message(subject, msgspec.json.encode(self._info))
        raise Unavailable("nobody", code="no_responders")

    collect = request


ABSENT = {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
SHUT = {"error": {"code": 503, "err_code": 10039, "description": "not enabled for account"}}


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        (ABSENT, NotFound),
        ({"config": {}}, Unavailable),
        (SHUT, Unavailable),
        (DeadlineExceeded("silence"), Unavailable),
        (Unavailable("nobody", code="no_responders"), Unavailable),
    ],
)
async def test_only_a_stream_that_is_not_there_is_not_found(info: Any, kind: type[DspexError]) -> None:
    history = History(Answers(info), {"other"})  # type: ignore[arg-type]
    with pytest.raises(kind) as one:
        await history.last("S", "a")
    assert one.value.retryable is (kind is Unavailable)
    with pytest.raises(kind):
        async for _ in history.read("S", "a", 0):
            pass


async def test_a_stream_that_we_made_is_only_away() -> None:
    """A server that has just been started may not know it yet."""
    history = History(Answers(ABSENT), {"S"})  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="not back yet"):
        await history.last("S", "a")
