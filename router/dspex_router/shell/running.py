"""``run`` and ``submit``: how a run's answer gets to who asked."""

from __future__ import annotations

from dspex_bus import Bus, Request
from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import ResultRequest, RunRequest, RunResult, Submitted

from .ephemeral import run_ephemeral
from .sessions import Sessions
from .submitting import Submitting

_LONGEST_WAIT_S = 3600.0


class Running:
    def __init__(self, bus: Bus, submitting: Submitting, sessions: Sessions) -> None:
        self._bus = bus
        self._submitting = submitting
        self._sessions = sessions

    async def run(self, request: Request, body: RunRequest, content: str) -> RunResult | None:
        """None where the session's end will be answered by whoever owns it then."""
        name = _name(request)
        if body.durability == "none":
            return await run_ephemeral(self._bus, await self._submitting.accepted(name, body))
        submitted, new = await self._submitting.submit(name, body, reply=request.reply, content=content)
        if new:
            return None
        return await self._sessions.result(ResultRequest(session=submitted.session, wait_s=_LONGEST_WAIT_S))

    async def submit(self, request: Request, body: RunRequest, content: str) -> Submitted:
        if body.durability == "none":
            raise InvalidRequest("durability 'none' is for run: nothing of such a run is kept that could be asked for")
        submitted, _ = await self._submitting.submit(_name(request), body)
        return submitted


def _name(request: Request) -> str:
    return request.subject.rsplit(".", 1)[1]
