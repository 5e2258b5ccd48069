"""Dead letters, as clients see them."""

from __future__ import annotations

import msgspec

from dspex_bus import Bus, StoredMessage, subjects
from dspex_bus.claim import OBJECT_SIZE, Claims, claimed
from dspex_bus.errors import NotFound, ObjectGone
from dspex_bus.streams import DEAD_LETTERS
from dspex_bus.wire import (
    DeadLetter,
    DeadList,
    DeadListRequest,
    DeadRequest,
    ErrorInfo,
    ForkRequest,
    Submitted,
)

from .forking import Forking


class DeadLetters:
    def __init__(self, bus: Bus, forking: Forking) -> None:
        self._bus = bus
        self._forking = forking
        self._claims = Claims(bus)

    async def list(self, request: DeadListRequest) -> DeadList:
        found: list[DeadLetter] = []
        async for message in self._bus.history(DEAD_LETTERS, subjects.dead_letters(request.pool), after=request.after):
            found.append(_letter(message, whole=False))
            if len(found) == request.limit:
                break
        return DeadList(letters=tuple(found))

    async def show(self, request: DeadRequest) -> DeadLetter:
        return await self._whole(await self._message(request))

    async def drop(self, request: DeadRequest) -> DeadLetter:
        """Forget it; what was dropped."""
        message = await self._message(request)
        letter = await self._whole(message)
        await self._bus.purge(DEAD_LETTERS, message.subject)
        if not message.data:
            await self._claims.drop(letter.subject, message.headers)
        return letter

    async def _whole(self, message: StoredMessage) -> DeadLetter:
        letter = _letter(message, whole=True)
        if claimed(message.data, message.headers) is None:
            return letter
        try:
            data = await self._claims.unpack(letter.subject, message.data, message.headers)
        except ObjectGone:
            return letter
        return msgspec.structs.replace(letter, data=_text(data))

    async def retry(self, request: DeadRequest) -> Submitted:
        """Raises as ``session.retry`` does; the letter is dropped only once the new session is stored."""
        message = await self._message(request)
        letter = _letter(message, whole=False)
        submitted = await self._forking.retry(ForkRequest(session=letter.session, id=_retry_id(letter)))
        await self._bus.purge(DEAD_LETTERS, message.subject)
        return submitted

    async def _message(self, request: DeadRequest) -> StoredMessage:
        pattern = subjects.dead_letters(None)
        async for message in self._bus.history(DEAD_LETTERS, pattern, after=request.sequence - 1):
            if message.sequence == request.sequence:
                return message
            break
        raise NotFound(f"there is no dead letter {request.sequence}; see: dspex dead list", code="unknown_letter")


def _retry_id(letter: DeadLetter) -> str:
    """The same letter retried twice, by two clients or after a lost answer, is one session."""
    return f"retry-{letter.sequence}-{letter.session}"[:64]


def _letter(message: StoredMessage, *, whole: bool) -> DeadLetter:
    headers = message.headers or {}
    pool, session, node, attempt = subjects.split_dead(message.subject)
    return DeadLetter(
        sequence=message.sequence,
        time_ms=message.time_ms,
        pool=pool,
        session=session,
        node=node,
        attempt=attempt,
        reason=_reason(headers.get("Dspex-Reason", "")),
        subject=headers.get("Dspex-Subject", ""),
        size=int(headers.get(OBJECT_SIZE, len(message.data))),
        data=_text(message.data) if whole else None,
    )


def _reason(header: str) -> ErrorInfo:
    try:
        return msgspec.json.decode(header, type=ErrorInfo)
    except msgspec.DecodeError:
        return ErrorInfo(code=header or "unknown", message=header or "no reason was given")


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
