"""The registry: a key-value bucket with a record for each name, and each version's source by its digest."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable

import msgspec

from dspex_bus import Bus
from dspex_bus.errors import Conflict, InvalidRequest
from dspex_bus.names import token
from dspex_bus.streams import TEMPLATES

from ..errors import UnknownTemplate
from .types import StoredTemplate, TemplateVersion

_ATTEMPTS = 20
_SELECTOR = re.compile(r"[1-9][0-9]{0,9}|sha256:[0-9a-f]{64}")


def reference(text: str) -> tuple[str, str]:
    """``name``, ``name@3`` and ``name@sha256:…`` in their two parts, the second '' for the newest. Raises InvalidName
    or InvalidRequest."""
    name, at, selector = text.partition("@")
    token(name, "template")
    if at and not _SELECTOR.fullmatch(selector):
        raise InvalidRequest(
            f"{text!r} names no version of a template; write NAME, NAME@NUMBER or NAME@sha256:…", code="invalid_name"
        )
    return name, selector


class TemplateStore:
    """Each change is one compare-and-swap of a name's record. A source is there before the record that names it."""

    def __init__(self, bus: Bus, *, clock: Callable[[], float] = time.time) -> None:
        self._bucket = bus.key_value(TEMPLATES)
        self._clock = clock

    async def list(self) -> list[StoredTemplate]:
        """Every template, by name."""
        found = [await self._read(key) for key in await self._bucket.keys("*")]
        return [template for template, _ in found if template is not None]

    async def get(self, name: str) -> StoredTemplate:
        """Raises UnknownTemplate."""
        template, _ = await self._read(reference(name)[0])
        if template is None:
            raise _unknown(name, f"there is no template {name!r}")
        return template

    async def version(self, wanted: str) -> TemplateVersion:
        """The version that a reference means now. Raises UnknownTemplate saying which there are."""
        name, selector = reference(wanted)
        return _find(await self.get(name), selector)

    async def content(self, name: str, digest: str) -> str:
        """A version's source. Raises UnknownTemplate; InvalidRequest where it is damaged."""
        entry = await self._bucket.get(_source_key(name, digest))
        if entry is None:
            raise _unknown(name, f"there is no template {name}@{digest}")
        if _digest(entry.value) != digest:
            raise InvalidRequest(f"the stored template {name}@{digest} is damaged", code="damaged_template")
        return entry.value.decode()

    async def put(self, name: str, source: str, *, note: str = "") -> TemplateVersion:
        """A new version of ``name``; where the newest one has the same source, that one again. Raises TemplateError,
        with line and column, for a source that does not compile."""
        from ..native.template import compile_template

        token(name, "template")
        variables = compile_template(source).variables
        data = source.encode()
        digest = _digest(data)
        await self._bucket.put(_source_key(name, digest), data)
        for _ in range(_ATTEMPTS):
            template, revision = await self._read(name)
            if template is not None and template.newest.digest == digest:
                return template.newest
            number = 1 + (template.made if template else 0)
            made = TemplateVersion(
                version=number,
                digest=digest,
                created_ms=int(self._clock() * 1000),
                size=len(data),
                variables=variables,
                note=note,
            )
            before = template.versions if template else ()
            changed = StoredTemplate(name=name, versions=(*before, made), made=number)
            if await self._written(changed, revision):
                return made
        raise _busy(name)

    async def delete(self, wanted: str) -> tuple[TemplateVersion, ...]:
        """Forget a template, or with ``@`` one of its versions; those that are gone. Raises UnknownTemplate."""
        name, selector = reference(wanted)
        for _ in range(_ATTEMPTS):
            template, revision = await self._read(name)
            if template is None:
                raise _unknown(name, f"there is no template {name!r}")
            gone = (_find(template, selector),) if selector else template.versions
            kept = tuple(version for version in template.versions if version not in gone)
            if not kept:
                await self._bucket.delete(name)
            elif not await self._written(msgspec.structs.replace(template, versions=kept), revision):
                continue
            for digest in {one.digest for one in template.versions} - {one.digest for one in kept}:
                await self._bucket.delete(_source_key(name, digest))
            return gone
        raise _busy(name)

    async def _read(self, name: str) -> tuple[StoredTemplate | None, int]:
        entry = await self._bucket.get(name)
        if entry is None:
            return None, 0
        return msgspec.json.decode(entry.value, type=StoredTemplate), entry.revision

    async def _written(self, template: StoredTemplate, revision: int) -> bool:
        """Whether nobody else has changed it meanwhile."""
        data = msgspec.json.encode(template)
        try:
            if revision:
                await self._bucket.update(template.name, data, revision)
            else:
                await self._bucket.create(template.name, data)
        except Conflict:
            return False
        return True


def _find(template: StoredTemplate, selector: str) -> TemplateVersion:
    for version in reversed(template.versions):
        if selector in ("", str(version.version), version.digest):
            return version
    there = ", ".join(str(version.version) for version in template.versions)
    message = f"the template {template.name} has no version {selector!r}; there are: {there}"
    raise _unknown(f"{template.name}@{selector}", message)


def _source_key(name: str, digest: str) -> str:
    return f"{name}.{digest.removeprefix('sha256:')}"


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _unknown(wanted: str, message: str) -> UnknownTemplate:
    return UnknownTemplate(message, details={"template": wanted})


def _busy(name: str) -> Conflict:
    return Conflict(f"the template {name} is being changed by many at once; try again", retryable=True)
