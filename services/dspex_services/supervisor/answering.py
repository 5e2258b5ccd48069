"""Direct calls that a dead worker was at: they are nowhere stored, and nobody else would answer them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from dspex_bus import Bus
from dspex_bus.errors import DspexError
from dspex_bus.wire import ErrorInfo, StepFailed, TokensEnded, TokensStarted, encode, encode_event

logger = logging.getLogger("dspex.supervisor")


async def answer(bus: Bus, worker: str, calls: Sequence[tuple[str, str]]) -> None:
    """Each by an error that may be tried again. A stream of tokens is begun anew, so that what was said of it counts no
    more, and ended."""
    error = ErrorInfo(code="unavailable", message=f"the worker {worker} died before it was done", retryable=True)
    try:
        for reply, tokens in calls:
            if tokens:
                await bus.publish(tokens, encode(TokensStarted(sequence=0, worker=worker)))
                await bus.publish(tokens, encode(TokensEnded(sequence=1, status="failed", code=error.code)))
            if reply:
                data, headers = encode_event(StepFailed(error=error, worker=worker), reply)
                await bus.publish(reply, data, headers=headers)
    except DspexError as failed:
        logger.warning("calls that %s was at were not answered: %s", worker, failed)
