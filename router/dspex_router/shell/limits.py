"""Limits as clients set them, remembered whole: there are few, and every step asks."""

from __future__ import annotations

import builtins
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec

from dspex_bus import Bus, Message, subjects
from dspex_bus.errors import DspexError, InvalidRequest, NotFound
from dspex_bus.streams import LIMITS
from dspex_bus.wire import LimitDefinition, LimitList, LimitPut, LimitRequest, LimitView

from ..permits import Book, held
from .readable import readable

log = logging.getLogger(__name__)

_READ_AGAIN_S = 10.0


class Limits:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._bucket = bus.key_value(LIMITS)
        self._known: dict[str, LimitDefinition] = {}
        self._changed = anyio.Event()
        self._listeners: builtins.list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def names(self, limits: tuple[str, ...], tenant: str) -> tuple[str, ...]:
        """Those of a step's that there are, each once and always in the same order: nobody holds one that another
        waits for, and the other way round."""
        if not self._known:
            return ()
        named = {*limits, f"tenant.{tenant}"} if tenant else set(limits)
        return tuple(sorted(name for name in named if self.find(name) is not None))

    def find(self, name: str) -> LimitDefinition | None:
        return self._known.get(name) or self._known.get(f"{name.partition('.')[0]}.*")

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        async with self._bus.subscribed(subjects.LIMITS_CHANGED, self._on_changed):
            await self._read()
            yield

    async def keep(self) -> None:
        """Run for as long as limits are asked for: a router that was not heard is believed after a while."""
        while True:
            with anyio.move_on_after(_READ_AGAIN_S):
                await self._changed.wait()
            self._changed = anyio.Event()
            try:
                await self._read()
            except DspexError as error:
                log.warning("limits are read again in %g s: %s", _READ_AGAIN_S, error)

    async def put(self, request: LimitPut) -> LimitView:
        definition = request.definition
        if definition.concurrency is None and definition.per_second is None:
            raise InvalidRequest(f"limit {definition.name!r} limits nothing: give concurrency, per_second, or both")
        if definition.burst is not None and definition.per_second is None:
            raise InvalidRequest(f"limit {definition.name!r}: burst goes with per_second")
        await self._bucket.put(_key(definition.name), msgspec.json.encode(definition))
        await self._tell()
        return await self._view(definition)

    async def list(self) -> LimitList:
        await self._read()
        return LimitList(limits=tuple([await self._view(self._known[name]) for name in sorted(self._known)]))

    async def delete(self, request: LimitRequest) -> LimitView:
        await self._read()
        definition = self._known.get(request.name)
        if definition is None:
            known = ", ".join(sorted(self._known)) or "none"
            raise NotFound(f"there is no limit {request.name!r}; set: {known}", code="unknown_limit")
        gone = await self._view(definition)
        await self._bucket.delete(_key(request.name))
        await self._tell()
        return gone

    async def book(self, name: str) -> tuple[Book, int]:
        """The book and its revision, 0 where there is none yet."""
        key = _book_key(name)
        found = await self._bucket.get(key)
        return readable(Book, key, found) or Book(), 0 if found is None else found.revision

    async def books(self) -> builtins.list[str]:
        """The limits that have one."""
        if not self._known:
            return []
        return [key.removeprefix(_book_key("")) for key in await self._bucket.keys(_book_key(">"))]

    async def replace(self, name: str, book: Book, revision: int) -> None:
        """Raises Conflict where another router was faster."""
        data = msgspec.json.encode(book)
        if revision:
            await self._bucket.update(_book_key(name), data, revision)
        else:
            await self._bucket.create(_book_key(name), data)

    async def _view(self, definition: LimitDefinition) -> LimitView:
        book, _ = await self.book(definition.name) if not definition.name.endswith("*") else (Book(), 0)
        return LimitView(definition=definition, held=held(book, self._bus.clock.now_ms()))

    async def _read(self) -> None:
        found: builtins.list[LimitDefinition | None] = [
            readable(LimitDefinition, key, await self._bucket.get(key)) for key in await self._bucket.keys("limit.>")
        ]
        known = {definition.name: definition for definition in found if definition is not None}
        if known != self._known:
            self._known = known
            for listener in self._listeners:
                listener()

    async def _tell(self) -> None:
        await self._read()
        await self._bus.publish(subjects.LIMITS_CHANGED)

    async def _on_changed(self, _message: Message) -> None:
        self._changed.set()


def _key(name: str) -> str:
    return f"limit.{name.replace('*', '_each_')}"


def _book_key(name: str) -> str:
    return f"book.{name}"
