"""The registry: states by digest in the object store, names, versions and tags in a key-value bucket."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dspex_bus import Bus
from dspex_bus.errors import Conflict, InvalidRequest, NotFound
from dspex_bus.names import token
from dspex_bus.streams import PROGRAMS

from . import states
from .types import Origin, Program, ProgramVersion, Promotion

NEWEST = "latest"
PRODUCTION = "production"
_PROMOTIONS_KEPT = 100
_ATTEMPTS = 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def reference(text: str) -> tuple[str, str]:
    """``name``, ``name@tag``, ``name@3`` and ``name@sha256:…`` in their two parts; without ``@`` the newest version is
    meant. Raises InvalidName or InvalidRequest."""
    name, at, selector = text.partition("@")
    token(name, "program")
    if not at:
        return name, NEWEST
    if not _DIGEST.fullmatch(selector):
        token(selector, "program tag")
    return name, selector


class ProgramStore:
    """Every change to a program's names is one compare-and-swap: of two people who promote at once, both succeed, one
    after the other."""

    def __init__(self, bus: Bus, *, clock: Callable[[], float] = time.time) -> None:
        self._names = bus.key_value(PROGRAMS)
        self._objects = bus.objects(PROGRAMS)
        self._clock = clock

    async def list(self) -> list[Program]:
        """Every program, by name."""
        found = [await self._read(name) for name in await self._names.keys()]
        return [program for program, _ in found if program is not None]

    async def get(self, name: str) -> Program:
        """Raises NotFound (``unknown_program``)."""
        program, _ = await self._read(reference(name)[0])
        if program is None:
            raise NotFound(f"there is no program {name!r}", code="unknown_program", details={"program": name})
        return program

    async def version(self, wanted: str) -> ProgramVersion:
        """The version that a reference means now. Raises NotFound."""
        name, selector = reference(wanted)
        return find(await self.get(name), selector)

    async def state(self, digest: str) -> dict[str, Any]:
        """A version's state, its digest checked. Raises NotFound."""
        data = await self._objects.get(digest)
        if data is None:
            raise NotFound(f"there is no program state {digest}", code="unknown_program")
        if _digest(data) != digest:
            raise InvalidRequest(f"the stored program state {digest} is damaged", code="damaged_program")
        return states.decoded(data, source=digest)

    async def keep(self, state: Mapping[str, Any]) -> str:
        """Store a state alone, under no name; its digest."""
        data = states.encoded(state)
        digest = _digest(data)
        if await self._objects.get(digest) is None:
            await self._objects.put(digest, data)
        return digest

    async def put(
        self, name: str, state: Mapping[str, Any], origin: Origin | None = None, *, tag: str | None = None
    ) -> ProgramVersion:
        """A new version of ``name``; where the newest one has the same content and origin, that one again."""
        token(name, "program")
        data = states.encoded(state)
        origin = origin or Origin()
        if not origin.dspy_version:
            origin = msgspec.structs.replace(origin, dspy_version=states.dspy_version(state))
        digest = await self.keep(state)

        def add(program: Program) -> Program:
            newest = program.versions[-1] if program.versions else None
            if newest is not None and (newest.digest, newest.origin) == (digest, origin):
                return program
            number = 1 + (newest.version if newest else 0)
            made = ProgramVersion(version=number, digest=digest, created_ms=self._now(), size=len(data), origin=origin)
            return msgspec.structs.replace(program, versions=(*program.versions, made))

        program = await self._change(name, add, make=True)
        if tag is not None:
            await self.promote(f"{name}@{program.newest.version}", tag)
        return program.newest

    async def promote(self, wanted: str, tag: str = PRODUCTION) -> ProgramVersion:
        """Let ``tag`` mean that version from now on."""
        name, selector = reference(wanted)
        _check_tag(tag)
        version = find(await self.get(name), selector)
        await self._change(name, lambda program: self._tagged(program, tag, version.version))
        return version

    async def rollback(self, name: str, tag: str = PRODUCTION) -> ProgramVersion:
        """Let ``tag`` mean what it meant before its last promotion. Raises NotFound where there was nothing before."""
        program = await self._change(reference(name)[0], lambda program: _rolled_back(program, tag))
        return find(program, tag)

    async def delete(self, name: str) -> None:
        """Forget a program's names and versions; what runs by a digest still finds its state."""
        await self._names.delete(token(name, "program"))

    def _tagged(self, program: Program, tag: str, version: int) -> Program:
        if program.tags.get(tag) == version:
            return program
        said = Promotion(tag=tag, version=version, at_ms=self._now())
        return msgspec.structs.replace(
            program,
            tags={**program.tags, tag: version},
            promotions=(*program.promotions, said)[-_PROMOTIONS_KEPT:],
        )

    async def _read(self, name: str) -> tuple[Program | None, int]:
        entry = await self._names.get(name)
        if entry is None:
            return None, 0
        return msgspec.json.decode(entry.value, type=Program), entry.revision

    async def _change(self, name: str, change: Callable[[Program], Program], *, make: bool = False) -> Program:
        for _ in range(_ATTEMPTS):
            program, revision = await self._read(name)
            if program is None and not make:
                raise NotFound(f"there is no program {name!r}", code="unknown_program", details={"program": name})
            changed = change(program or Program(name=name))
            if changed == program:
                return changed
            data = msgspec.json.encode(changed)
            try:
                if program is None:
                    await self._names.create(name, data)
                else:
                    await self._names.update(name, data, revision)
                return changed
            except Conflict:
                continue
        raise Conflict(f"the program {name} is being changed by many at once; try again", retryable=True)

    def _now(self) -> int:
        return int(self._clock() * 1000)


def find(program: Program, selector: str) -> ProgramVersion:
    """The version that a tag, a number, a digest or ``latest`` means. Raises NotFound saying what there is."""
    number = int(selector) if selector.isdigit() else program.tags.get(selector)
    if selector == NEWEST and number is None:
        return program.newest
    for version in reversed(program.versions):
        if version.version == number or version.digest == selector:
            return version
    known = ", ".join((*sorted(program.tags), f"1 to {program.newest.version}"))
    raise NotFound(
        f"the program {program.name} has no version {selector!r}; there are: {known}",
        code="unknown_program",
        details={"program": program.name, "version": selector},
    )


def _rolled_back(program: Program, tag: str) -> Program:
    standing = [place for place, said in enumerate(program.promotions) if said.tag == tag and not said.undone]
    if len(standing) < 2:
        raise NotFound(
            f"{program.name}@{tag} was no other version before",
            code="unknown_program",
            details={"program": program.name},
        )
    *_, before, last = standing
    promotions = list(program.promotions)
    promotions[last] = msgspec.structs.replace(promotions[last], undone=True)
    return msgspec.structs.replace(
        program, tags={**program.tags, tag: promotions[before].version}, promotions=tuple(promotions)
    )


def digest_of(state: Mapping[str, Any]) -> str:
    """What a state is stored under."""
    return _digest(states.encoded(state))


def _check_tag(tag: str) -> None:
    token(tag, "program tag")
    if tag.isdigit() or tag == NEWEST:
        raise InvalidRequest(f"{tag!r} cannot be a tag: numbers are versions, and {NEWEST} is the newest one")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
