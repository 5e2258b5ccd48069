"""What live workers offer, as a value."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from dspex_bus.errors import InvalidRequest, NotFound, NoWorkers
from dspex_bus.wire import HandlerInfo, WorkerPresence

HOME: dict[Literal["native", "dspy"], str] = {"native": "native", "dspy": "dspy"}
"""The pool that serves an implementation's own handlers; preferred where several pools offer the same one."""


class Offer(NamedTuple):
    pool: str
    info: HandlerInfo


@dataclass(frozen=True, slots=True)
class Catalog:
    """``pools`` maps each pool with a ready worker to its handlers by name."""

    pools: Mapping[str, Mapping[str, HandlerInfo]]

    @classmethod
    def of(cls, presences: Iterable[WorkerPresence]) -> Catalog:
        """From workers' announcements; those draining or leaving take no new work and do not count. Where a pool's
        workers differ, as in a deploy, the one started last says what a handler reads."""
        pools: dict[str, dict[str, HandlerInfo]] = {}
        for presence in sorted(presences, key=lambda presence: presence.started_ms):
            if presence.state == "ready":
                pools.setdefault(presence.pool, {}).update((info.name, info) for info in presence.handlers)
        return cls(pools)

    def locate(
        self, handler: str, implementation: Literal["native", "dspy"] | None = None, *, pool: str | None = None
    ) -> Offer:
        """The pool that runs ``handler``: ``pool`` if given, else the only one that offers it, else its home pool.

        Raises NoWorkers, NotFound (``unknown_handler``) or InvalidRequest (``ambiguous_pool``).
        """
        if pool is not None and pool not in self.pools:
            raise self._no_workers(handler, pool)
        offers = [
            Offer(name, handlers[handler])
            for name, handlers in self.pools.items()
            if pool in (None, name) and handler in handlers
            if implementation in (None, handlers[handler].implementation)
        ]
        if not offers:
            home = HOME[implementation or "native"]
            if pool is None and home not in self.pools:
                raise self._no_workers(handler, home)
            raise self._unknown(handler, implementation, pool)
        at_home = [offer for offer in offers if offer.pool == HOME[offer.info.implementation]]
        if len(offers) > 1 and not at_home:
            pools = sorted(offer.pool for offer in offers)
            raise InvalidRequest(
                f"the handler {handler!r} is offered by the pools {', '.join(pools)}: say which with 'pool'",
                code="ambiguous_pool",
                details={"handler": handler, "pools": pools},
            )
        return (at_home or offers)[0]

    def _no_workers(self, handler: str, pool: str) -> NoWorkers:
        live = sorted(self.pools)
        return NoWorkers(
            f"the pool {pool!r}, which should run {handler!r}, has no ready worker (ready pools: {_listed(live)})",
            details={"pool": pool, "handler": handler, "ready": live},
        )

    def _unknown(self, handler: str, implementation: str | None, pool: str | None) -> NotFound:
        infos = [info for name, offered in self.pools.items() if pool in (None, name) for info in offered.values()]
        known = sorted({info.name for info in infos if implementation in (None, info.implementation)})
        other = next((info.implementation for info in infos if info.name == handler), None)
        hint = f" ({handler!r} is {OTHER_KIND[other]})" if other else suggestion(handler, known)
        where = "no ready worker" if pool is None else f"no ready worker of the pool {pool!r}"
        kind = "" if implementation is None else f"{implementation} "
        return NotFound(
            f"{where} offers a {kind}handler {handler!r}{hint}; there are: {_listed(known)}",
            code="unknown_handler",
            details={"handler": handler, "known": known},
        )


OTHER_KIND = {"native": "a native handler: write it as 'native'", "dspy": "a DSPy module: write it as 'module'"}


def suggestion(name: str, known: Iterable[str]) -> str:
    """``; did you mean …?``, or '' where nothing known comes close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
