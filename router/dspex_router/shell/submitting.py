"""Accepting a run: everything that can be wrong is found here, and what is answered as accepted is stored."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import msgspec

from dspex_bus import Bus, Stored, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import Conflict, InvalidRequest
from dspex_bus.wire import JSON, PipelineDefinition, Plan, RunRequest, SessionAccepted, Submitted, encode_event

from ..plan import Reference, least_ms, references
from .compiling import Compiling
from .config import RouterConfig
from .journals import Journals
from .pipelines import Pipelines
from .release import stamped
from .remembered import Remembered
from .young import Young

_STORE_S = 10.0
_canonical = msgspec.json.Encoder(order="deterministic")


class Submitting:
    """``check`` raises what speaks against accepting another run of a plan now."""

    def __init__(
        self,
        bus: Bus,
        config: RouterConfig,
        journals: Journals,
        compiling: Compiling,
        pipelines: Pipelines,
        young: Young,
        check: Callable[[Plan], None],
    ) -> None:
        self._bus = bus
        self._config = config
        self._journals = journals
        self._compiling = compiling
        self._pipelines = pipelines
        self._check = check
        self._references = Remembered(references)
        self._least_ms = Remembered(least_ms)
        self._young = young
        self._claims = Claims(bus)

    async def definition(self, name: str, request: RunRequest) -> PipelineDefinition:
        """The request's own under the name ``inline``, else the stored one."""
        if name == subjects.INLINE:
            if request.definition is None:
                raise InvalidRequest("a run of 'inline' brings its pipeline in 'definition'")
            return request.definition
        if request.definition is not None:
            raise InvalidRequest(f"only a run of 'inline' brings its own definition, and this one is of {name!r}")
        return await self._pipelines.definition(Reference(name))

    async def _within(self, definition: PipelineDefinition) -> dict[Reference, PipelineDefinition]:
        """The stored pipelines that its steps run, and those that theirs do."""
        found: dict[Reference, PipelineDefinition] = {}
        wanted = set(self._references(definition))
        while wanted:
            reference = wanted.pop()
            if reference not in found:
                found[reference] = await self._pipelines.definition(reference)
                wanted |= self._references(found[reference])
        return found

    async def accepted(
        self, name: str, request: RunRequest, *, reply: str = "", content: str = JSON
    ) -> SessionAccepted:
        """The event that starts the run. Raises what is wrong with the request."""
        definition = await self.definition(name, request)
        within = await self._within(definition)
        plan = await self._compiling.plan(definition, request.input, request.durability, within)
        if request.durability == "stored":
            self._check(plan)
        timeout_s = request.timeout_s or definition.timeout_s or self._config.run_timeout_s
        least_s = self._least_ms(plan.root) / 1000
        if least_s >= timeout_s:
            message = f"the run sleeps {least_s:.12g} s and may take {timeout_s:.12g} s: give it, or its pipeline, more"
            raise InvalidRequest(f"{message} 'timeout_s'", details={"sleeps_s": least_s, "timeout_s": timeout_s})
        return SessionAccepted(
            session=request.session or secrets.token_hex(12),
            plan=plan,
            input=request.input,
            deadline_ms=self._bus.clock.now_ms() + int(timeout_s * 1000),
            reply=reply,
            reply_content=content,
            budget=request.budget or definition.budget,
            tenant=request.tenant,
            stream=request.stream,
            thread=request.thread or "",
            priority=request.priority or definition.priority,
        )

    async def submit(
        self, name: str, request: RunRequest, *, reply: str = "", content: str = JSON
    ) -> tuple[Submitted, bool]:
        """Store a run; and whether it is a new one: the same id with the same pipeline and input is the same
        session."""
        return await self.store(await self.accepted(name, request, reply=reply, content=content))

    async def store(self, accepted: SessionAccepted) -> tuple[Submitted, bool]:
        """Store what starts a session; see :meth:`submit`."""
        partition = self._journals.partition(accepted.session)
        stored = await self._store(partition, accepted)
        if not stored.created:
            return await self._existing(partition, accepted), False
        return _submitted(partition, accepted.session, stored.sequence), True

    async def _store(self, partition: int, accepted: SessionAccepted) -> Stored:
        subject = subjects.accepted(partition, accepted.session)
        data, headers = encode_event(stamped(accepted), subject)
        await self._young.announce(partition, accepted.session)
        return await self._claims.store_once(subject, data, headers, timeout_s=_STORE_S)

    async def _existing(self, partition: int, accepted: SessionAccepted) -> Submitted:
        session = accepted.session
        held = await self._journals.accepted(session)
        if held is None or not _same(held[0], accepted):
            raise Conflict(
                f"the session id {session!r} is taken by another run; choose another, or leave it out",
                code="session_exists",
                details={"session": session},
            )
        if await self._journals.has_ended(session):
            await self._young.withdraw(partition, session)
        return _submitted(partition, session, held[1].sequence)


def _same(one: SessionAccepted, other: SessionAccepted) -> bool:
    if (one.plan.digest, one.origin) != (other.plan.digest, other.origin):
        return False
    return _canonical.encode(one.input) == _canonical.encode(other.input)


def _submitted(partition: int, session: str, sequence: int) -> Submitted:
    return Submitted(
        session=session, partition=partition, sequence=sequence, events=subjects.session_events(session, partition)
    )
