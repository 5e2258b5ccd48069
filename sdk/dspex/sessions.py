"""A handle on one durable session: its events, its result, its cancellation."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel

from dspex_bus import Subscription, subjects
from dspex_bus.errors import DeadlineExceeded, DspexError
from dspex_bus.wire import (
    CancelRequest,
    EventPage,
    EventsRequest,
    ForkRequest,
    PauseRequest,
    ResultRequest,
    RunResult,
    SessionEnded,
    SessionRequest,
    SessionView,
    SignalReply,
    SignalRequest,
    StoredEvent,
    Submitted,
    spread,
)

from ._asking import Asking
from ._feed import Feed, TokenEvent

_QUIET_S = 2.0
"""After that long without a live event the journal is asked: what was missed during a reconnect is found then."""

_LAST_WORDS_S = 0.5
_POLL_S = 5.0
"""How long one question for a result stands: a router that is killed answers none of those it was asked."""

_MARGIN_S = 2.0
_AGAIN_S = 0.2
_PATIENCE_S = 60.0


class Patience:
    """With a system that does not answer: none at first, a minute once it has answered."""

    def __init__(self) -> None:
        self._until = 0.0

    def renew(self) -> None:
        self._until = anyio.current_time() + _PATIENCE_S

    @property
    def over(self) -> bool:
        return anyio.current_time() > self._until


class Session:
    """One run, wherever its steps are. ``id`` is all that is needed to come back to it from another process."""

    def __init__(self, client: Asking, id: str) -> None:
        self._client = client
        self.id = id

    async def view(self) -> SessionView:
        """Status, plan and a report for every step, as they are now."""
        return await self._client.ask("session", "get", SessionRequest(session=self.id), SessionView)

    async def result(self, *, timeout_s: float = 3600.0) -> RunResult:
        """How the session ended, waiting for it, through lost connections and restarted routers too. Raises
        DeadlineExceeded after ``timeout_s``; does not raise for a session that failed: look at ``status``."""
        with anyio.move_on_after(timeout_s):
            while True:
                wait = min(_POLL_S, timeout_s)
                try:
                    return await self._client.ask(
                        "session",
                        "result",
                        ResultRequest(session=self.id, wait_s=wait),
                        RunResult,
                        timeout_s=wait + _MARGIN_S,
                    )
                except DeadlineExceeded:
                    continue
                except DspexError as error:
                    if not error.retryable:
                        raise
                    await anyio.sleep(_AGAIN_S)
        raise DeadlineExceeded(f"session {self.id} has not ended within {timeout_s:g} s; it goes on")

    async def cancel(self, reason: str = "") -> SessionView:
        """End it: queued steps never start, running ones are told. When this returns it has ended, and nothing of it is
        accepted any more. Safe to repeat."""
        return await self._client.ask("session", "cancel", CancelRequest(session=self.id, reason=reason), SessionView)

    async def pause(self, reason: str = "") -> SessionView:
        """Let what runs end and start nothing more, until :meth:`resume`. The run's deadline stays as it is."""
        return await self._client.ask("session", "pause", PauseRequest(session=self.id, reason=reason), SessionView)

    async def resume(self) -> SessionView:
        return await self._client.ask("session", "resume", PauseRequest(session=self.id), SessionView)

    async def signal(self, name: str, payload: Mapping[str, Any] | None = None, *, id: str | None = None) -> bool:
        """Send a signal; a wait of that name takes it, now or later. ``id`` is your own: the same one twice is one
        signal, and False says that it was there before."""
        request = SignalRequest(session=self.id, name=name, id=id or _new_id(), payload=dict(payload or {}))
        return (await self._client.ask("session", "signal", request, SignalReply)).created or id is None

    async def retry(self, *, timeout_s: float | None = None, id: str | None = None) -> Session:
        """A new session that goes on from what failed in this one, its results kept, and those of the pipelines within
        that had begun."""
        return await self._fork("retry", ForkRequest(session=self.id, timeout_s=timeout_s, id=id or _new_id()))

    async def fork(
        self,
        node: str,
        input: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
        id: str | None = None,
    ) -> Session:
        """A new session that runs again from the step ``node`` (its place, as :meth:`view` tells it, or its name
        where no other has it), with ``input`` over this one's and what was done before it kept."""
        given = dict(input or {})
        request = ForkRequest(session=self.id, node=node, input=given, timeout_s=timeout_s, id=id or _new_id())
        return await self._fork("fork", request)

    async def _fork(self, verb: str, request: ForkRequest) -> Session:
        return Session(self._client, (await self._client.ask("session", verb, request, Submitted)).session)

    async def page(self, after: int = 0, limit: int = 256, *, snapshots: bool = False) -> EventPage:
        """Stored events with a sequence above ``after``, and with ``snapshots`` what stands for those that are gone."""
        request = EventsRequest(session=self.id, after=after, limit=limit, snapshots=snapshots)
        return await self._client.ask("session", "events", request, EventPage)

    async def events(self, *, after: int = 0) -> AsyncIterator[StoredEvent]:
        """Every event with a sequence above ``after``, those stored already and then live, up to and with the end.

        Nothing is skipped or repeated across reconnects. To resume later, pass the last ``sequence`` seen; steps that
        travelled as one task share theirs. Raises
        Unavailable where nobody answers at the start, or for a minute later on.
        """
        async for item in self.follow(after=after, tokens=False):
            assert isinstance(item, StoredEvent)
            yield item

    async def tokens(self) -> AsyncIterator[TokenEvent]:
        """The model's tokens as they come, of every step that says them, until the session has ended. They are not
        stored: what was said before this is called is gone. The run, or its steps, must have been asked to ``stream``.

        Each has ``node``, ``attempt`` and ``message``: TokensStarted first, then TokenPiece and TokenStatus,
        TokensEnded last, counted from 0 by ``sequence``. Raises SlowConsumer when thousands wait to be taken.
        """
        async for item in self.follow(after=0, tokens=True):
            if isinstance(item, TokenEvent):
                yield item

    async def follow(
        self, *, after: int = 0, tokens: bool = True, begin: Callable[[], Awaitable[object]] | None = None
    ) -> AsyncIterator[StoredEvent | TokenEvent]:
        """Events and tokens together, in the order in which they come. ``begin`` is called once nothing can be missed
        any more: to submit the run, for instance."""
        async with self._live(tokens) as feed:
            if begin is not None:
                await begin()
            ended, patience = False, Patience()
            while not ended:
                while (told := feed.token()) is not None:
                    yield told
                if feed.behind:
                    feed.behind = False
                    try:
                        async for event in self._stored(after):
                            after, ended = event.sequence, isinstance(event.event, SessionEnded)
                            async for told in _tokens_before(event, feed):
                                yield told
                            yield event
                        patience.renew()
                    except DspexError as error:
                        if patience.over or feed.overrun or not error.retryable:
                            raise
                        feed.behind = True
                        await anyio.sleep(_AGAIN_S)
                else:
                    live = await feed.next(_QUIET_S)
                    if live is not None and live.sequence > after:
                        after, ended = live.sequence, isinstance(live.event, SessionEnded)
                        async for told in _tokens_before(live, feed):
                            yield told
                        for event in spread(live):
                            yield event

    async def _stored(self, after: int) -> AsyncIterator[StoredEvent]:
        while True:
            page = await self.page(after)
            for event in page.events:
                yield event
            if page.next_after == after or not page.events:
                return
            after = page.next_after

    @asynccontextmanager
    async def _live(self, tokens: bool) -> AsyncIterator[Feed]:
        feed, bus = Feed(), self._client.bus
        bus.on_reconnect(feed.on_reconnect)
        subscriptions: list[Subscription] = []
        try:
            if tokens:
                subscriptions.append(await bus.subscribe(subjects.session_tokens(self.id), feed.on_tokens))
            subscriptions.append(await bus.subscribe(subjects.session_events(self.id), feed.on_message))
            yield feed
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                for subscription in subscriptions:
                    await subscription.close()


async def _tokens_before(event: StoredEvent, feed: Feed) -> AsyncIterator[TokenEvent]:
    """What belongs before an event: all that its own attempt said, and before a session's end all there is, also what
    comes a moment later, by another way."""
    place = (event.node, event.attempt)
    ended = isinstance(event.event, SessionEnded)
    if not ended and not event.node:
        return
    await anyio.lowlevel.checkpoint()
    until = anyio.current_time() + _LAST_WORDS_S
    while True:
        for told in feed.rest() if ended else feed.tokens_of(*place):
            yield told
        feed.check()
        left_s = until - anyio.current_time()
        if left_s <= 0 or not (feed.speaking if ended else feed.speaks(*place)):
            return
        await feed.change(left_s)


def _new_id() -> str:
    """So that what is asked again is the same."""
    return secrets.token_hex(12)
