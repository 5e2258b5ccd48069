"""The claim check: a body too large for a message goes to the object store, and the message says where it is."""

from __future__ import annotations

import hashlib
import logging
import secrets

from . import subjects
from .bus import Bus, Headers, Message, Stored
from .errors import DspexError, ObjectGone, StoreFailed, Unavailable
from .streams import EVENTS, OBJECTS, TASKS

logger = logging.getLogger("dspex.bus")

OBJECT = "Dspex-Object"
OBJECT_SIZE = "Dspex-Object-Size"
OBJECT_DIGEST = "Dspex-Object-Digest"

LARGE_BYTES = 512 * 1024


def claimed(data: bytes, headers: Headers | None) -> str | None:
    """The object that holds the body; None where the message has it itself. Headers are parsed at the first look, so
    they are looked at only where there is no body."""
    return None if data or not headers else headers.get(OBJECT)


def claim_of(headers: Headers | None) -> dict[str, str]:
    """What says in ``headers`` where the body is."""
    return {name: headers[name] for name in (OBJECT, OBJECT_SIZE, OBJECT_DIGEST) if headers and name in headers}


class Claims:
    """An object is stored before the message that names it, belongs to that message alone, and is read by whoever reads
    the message. It can only be the message's own session's: a name is no key to another's values."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._objects = bus.objects(OBJECTS)

    def large(self, data: bytes) -> bool:
        return len(data) > LARGE_BYTES or len(data) > self._bus.max_payload // 2

    async def pack(self, subject: str, data: bytes, headers: Headers | None = None) -> tuple[bytes, Headers | None]:
        """What to send on ``subject`` in place of ``data``. PayloadTooLarge past what the object store takes."""
        if not self.large(data):
            return data, headers
        name = subjects.object_name(subject, secrets.token_hex(12))
        digest = await self._objects.put(name, data)
        told = {**(headers or {}), OBJECT: name, OBJECT_SIZE: str(len(data)), OBJECT_DIGEST: digest}
        return b"", told

    async def unpack(self, subject: str, data: bytes, headers: Headers | None) -> bytes:
        """The body of a message that came on ``subject``. Raises ObjectGone where there is none any more."""
        name = claimed(data, headers)
        if name is None or headers is None:
            return data
        if subjects.split_object(name) != subjects.object_owner(subject):
            raise ObjectGone(f"the object {name} cannot be what belongs on {subject}", subject=subject, raw=data)
        what = f"the object {name}, the body of a message on {subject},"
        try:
            found = await self._objects.get(name)
        except StoreFailed as error:
            if error.retryable:
                raise
            raise ObjectGone(f"{what} is damaged", subject=subject, raw=data) from error
        if found is None:
            raise ObjectGone(f"{what} is gone", subject=subject, raw=data)
        meant = headers.get(OBJECT_DIGEST)
        if meant is not None and meant != f"sha256:{hashlib.sha256(found).hexdigest()}":
            raise ObjectGone(f"{what} is another than was stored with it", subject=subject, raw=data)
        return found

    async def drop(self, subject: str, headers: Headers | None) -> None:
        """Forget the object, if any: nobody will read the message on ``subject`` again. Left where that fails, it is a
        stray that a router sweeps."""
        name = claimed(b"", headers)
        if name is not None and subjects.split_object(name) == subjects.object_owner(subject):
            try:
                await self._objects.delete(name)
            except DspexError as error:
                logger.warning("the object %s is left for the sweep: %s", name, error)

    async def drop_unless_stored(self, subject: str, headers: Headers | None) -> None:
        """After a slot was found filled. It may be by the very same message: sent twice, because the first answer was
        lost."""
        name = claimed(b"", headers)
        if name is None:
            return
        stream = TASKS if subject.startswith(f"{subjects.TASK}.") else EVENTS
        try:
            async for there in self._bus.history(stream, subject):
                if claimed(there.data, there.headers) == name:
                    return
        except DspexError as error:
            logger.warning("the object %s is left for the sweep: %s", name, error)
            return
        await self.drop(subject, headers)

    async def store_once(
        self, subject: str, data: bytes, headers: Headers | None = None, *, timeout_s: float = 5.0
    ) -> Stored:
        """Fill a slot, and wait for it."""
        data, headers = await self.pack(subject, data, headers)
        stored = await self._bus.store_and_wait(subject, data, headers=headers, once=True, timeout_s=timeout_s)
        if not stored.created:
            await self.drop_unless_stored(subject, headers)
        return stored

    async def request(
        self, subject: str, data: bytes = b"", *, headers: Headers | None = None, timeout_s: float = 5.0
    ) -> Message:
        """Like :meth:`Bus.request`, whatever the size. Who answers drops the request's object, and we the answer's."""
        data, headers = await self.pack(subject, data, headers)
        try:
            answer = await self._bus.request(subject, data, headers=headers, timeout_s=timeout_s)
        except Unavailable as error:
            if error.code == "no_responders":
                await self.drop(subject, headers)
            raise
        if claimed(answer.data, answer.headers) is not None:
            answer.data = await self.unpack(answer.subject, answer.data, answer.headers)
            await self.drop(answer.subject, answer.headers)
        return answer
