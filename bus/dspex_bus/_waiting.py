"""Waiting for what a bus answers later by callback."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .errors import DeadlineExceeded

if TYPE_CHECKING:
    from .bus import Bus, Headers, OnStored, Stored

logger = logging.getLogger("dspex.bus")


def tell(then: OnStored, result: Stored | Exception, subject: str) -> None:
    try:
        then(result)
    except Exception:  # it must neither end a connection nor hide the result of another store
        logger.exception("what was to follow the storing of %s failed", subject)


async def store_and_wait(
    bus: Bus, subject: str, data: bytes, *, headers: Headers | None, once: bool, timeout_s: float
) -> Stored:
    """What :meth:`Bus.store` reports, awaited. A store ``once`` that is given up here goes on in the background."""
    result: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

    def answered(stored: Stored | Exception) -> None:
        if result.done():
            return
        if isinstance(stored, Exception):
            result.set_exception(stored)
        else:
            result.set_result(stored)

    try:
        async with asyncio.timeout(timeout_s):
            await bus.store(subject, data, headers=headers, once=once, then=answered)
            return await result
    except TimeoutError as error:
        raise DeadlineExceeded(f"the message on {subject} was not stored within {timeout_s:g} s") from error
    finally:
        result.cancel()
