"""Stored definitions, versioned by content: ``<name>.current`` names the newest, ``<name>.version.<digest>`` is one."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from dspex_bus import Bus, names, subjects
from dspex_bus.errors import InvalidRequest, NotFound
from dspex_bus.streams import PIPELINES
from dspex_bus.wire import PipelineDefinition, PipelineList, PipelinePut, PipelineRequest, PipelineView, decode

from ..plan import Reference, check_structure, digest_of
from .definitions import Definitions
from .readable import readable


class Pipelines:
    def __init__(self, bus: Bus, definitions: Definitions) -> None:
        self._clock = bus.clock
        self._bucket = bus.key_value(PIPELINES)
        self._definitions = definitions

    async def put(self, request: PipelinePut) -> PipelineView:
        """Store a definition whose structure is sound. Whether workers offer its handlers is asked when it runs."""
        definition = request.definition
        if definition.name == subjects.INLINE:
            raise InvalidRequest(
                f"{subjects.INLINE!r} is the name of runs that bring their own definition; choose another"
            )
        check_structure(definition)
        stored = PipelineView(
            name=definition.name,
            version=digest_of(definition),
            stored_ms=self._clock.now_ms(),
            definition=definition,
        )
        data = msgspec.json.encode(stored)
        await self._bucket.put(_version(stored.name, stored.version), data)
        await self._bucket.put(_current(stored.name), data)
        await self._definitions.changed()
        return stored

    async def get(self, request: PipelineRequest) -> PipelineView:
        names.token(request.name, "pipeline")
        key = _current(request.name)
        if request.version is not None:
            key = _version(request.name, names.token(request.version, "version"))
        entry = await self._bucket.get(key)
        if entry is None:
            known = ", ".join(sorted({view.name for view in (await self.list()).pipelines})) or "none"
            what = f"{request.name!r}" + (f" version {request.version}" if request.version else "")
            raise NotFound(f"there is no pipeline {what}; stored: {known}", code="unknown_pipeline")
        return decode(PipelineView, entry.value, subject=key)

    async def definition(self, reference: Reference) -> PipelineDefinition:
        """What a run of that name starts with. It may be a moment old: see :class:`Definitions`."""
        return await self._definitions.get(reference, self._stored)

    async def _stored(self, reference: Reference) -> PipelineDefinition:
        definition = (await self.get(PipelineRequest(name=reference.name, version=reference.version))).definition
        assert definition is not None
        return definition

    async def list(self) -> PipelineList:
        found = []
        for key in await self._bucket.keys("*.current"):
            view = readable(PipelineView, key, await self._bucket.get(key))
            if view is not None:
                found.append(replace(view, definition=None))
        return PipelineList(pipelines=tuple(found))

    async def delete(self, request: PipelineRequest) -> PipelineView:
        """Without a version: the name and all its versions. Sessions that run keep what they started with."""
        gone = await self.get(request)
        if request.version is not None:
            current = await self.get(PipelineRequest(name=request.name))
            if current.version == request.version:
                raise InvalidRequest(
                    f"version {request.version} is the one in use; put another first, or delete the name"
                )
            await self._bucket.delete(_version(request.name, request.version))
            await self._definitions.changed()
            return gone
        await self._bucket.delete(_current(request.name))
        for key in await self._bucket.keys(f"{request.name}.version.*"):
            await self._bucket.delete(key)
        await self._definitions.changed()
        return gone


def _current(name: str) -> str:
    return f"{name}.current"


def _version(name: str, version: str) -> str:
    return f"{name}.version.{version}"
