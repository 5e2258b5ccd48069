"""Stored templates in a worker: what a name means now, looked up afresh twice a second; sources, which never change, by
their digest."""

from __future__ import annotations

import time
from collections import OrderedDict
from functools import lru_cache
from typing import NamedTuple

import jinja2

from dspex_bus import Bus

from ..templates import TemplateStore
from .errors import TemplateError
from .sandbox import Sandbox
from .template import Template, compile_template

_FRESH_S = 0.5
_KEPT = 512
_MOST_INCLUDED = 64


class _Meant(NamedTuple):
    until: float
    digest: str


class StoredTemplates:
    def __init__(self) -> None:
        self._meant: OrderedDict[str, _Meant] = OrderedDict()
        self._sources: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def get(self, bus: Bus, wanted: str) -> Template:
        """The template that ``name`` or ``name@version`` means, with all that it includes. Raises UnknownTemplate, and
        TemplateError for an include that is not given by a constant name."""
        store = TemplateStore(bus)
        sources: dict[str, str] = {}
        missing = [wanted]
        while missing:
            name = missing.pop()
            if name in sources:
                continue
            if len(sources) > _MOST_INCLUDED:
                raise TemplateError(f"it includes more than {_MOST_INCLUDED} templates", name=wanted)
            sources[name] = await self._source(store, name)
            missing += _included(name, sources[name])
        return _compiled(wanted, tuple(sorted(sources.items())))

    async def _source(self, store: TemplateStore, wanted: str) -> str:
        now = time.monotonic()
        meant = self._meant.get(wanted)
        if meant is None or meant.until < now:
            version = await store.version(wanted)
            meant = self._meant[wanted] = _Meant(now + _FRESH_S, version.digest)
        name = wanted.partition("@")[0]
        key = (name, meant.digest)
        if key not in self._sources:
            self._sources[key] = await store.content(name, meant.digest)
        for kept in (self._meant, self._sources):
            while len(kept) > _KEPT:
                kept.popitem(last=False)
        return self._sources[key]


def _included(name: str, source: str) -> list[str]:
    found = []
    for include in compile_template(source).includes:
        if include is None:
            raise TemplateError("a stored template includes others by constant names only", name=name)
        found.append(include)
    return found


@lru_cache(maxsize=256)
def _compiled(wanted: str, sources: tuple[tuple[str, str], ...]) -> Template:
    known = dict(sources)
    return Template(known[wanted], name=wanted, environment=Sandbox(jinja2.DictLoader(known)))
