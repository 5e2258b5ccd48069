"""Stored programs in a worker: what a name means now, looked up afresh twice a second, and states kept by digest."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

import dspy

from dspex_bus import Bus
from dspex_bus.errors import InvalidRequest

from ..errors import InvalidInput
from ..programs import Origin, ProgramStore
from ..programs.states import predictors
from .model import Models

_FRESH_S = 0.5
_STATES_KEPT = 64


class Loaded(NamedTuple):
    digest: str
    origin: Origin
    state: dict[str, Any]


class Loader:
    def __init__(self) -> None:
        self._meant: dict[str, tuple[float, str, Origin]] = {}
        self._states: OrderedDict[str, dict[str, Any]] = OrderedDict()

    async def load(self, bus: Bus, wanted: str) -> Loaded:
        """The program that a reference means now. Raises NotFound."""
        digest, origin = await self._meaning(bus, wanted)
        return Loaded(digest, origin, await self.state(bus, digest))

    async def program_of(self, bus: Bus, options: Mapping[str, Any]) -> str:
        """The digest of the program that constants name; '' where it is none, which whoever runs it will say."""
        wanted = options.get("program")
        if not isinstance(wanted, str):
            return ""
        try:
            return (await self._meaning(bus, wanted))[0]
        except InvalidRequest:
            return ""

    async def _meaning(self, bus: Bus, wanted: str) -> tuple[str, Origin]:
        meant = self._meant.get(wanted)
        if meant is None or time.monotonic() - meant[0] > _FRESH_S:
            version = await ProgramStore(bus).version(wanted)
            meant = self._meant[wanted] = (time.monotonic(), version.digest, version.origin)
        return meant[1:]

    async def state(self, bus: Bus, digest: str) -> dict[str, Any]:
        """A state by its digest, which never changes."""
        state = self._states.get(digest)
        if state is None:
            state = self._states[digest] = await ProgramStore(bus).state(digest)
            while len(self._states) > _STATES_KEPT:
                self._states.popitem(last=False)
        return state


def apply(module: Any, state: Mapping[str, Any], models: Models) -> None:
    """Give a module a program's state; each predictor's own model, if it has one, becomes one of the pool's. Raises
    InvalidInput where the state is another module's."""
    kept = predictors(state)
    named = dict(module.named_parameters())
    missing = [name for name in named if name not in kept]
    if missing:
        raise InvalidInput(
            f"the program is another module's: it has no {', '.join(missing)}; it has: {', '.join(kept)}",
            code="program_mismatch",
        )
    loaded = {name: _without_lm(kept[name]) for name in named}
    module.load_state(loaded["self"] if isinstance(module, dspy.Predict) else loaded)
    for name, parameter in named.items():
        lm = kept[name].get("lm") if isinstance(kept[name], Mapping) else None
        if lm:
            parameter.lm = models.get(lm.get("model"), lm.get("temperature"), lm.get("max_tokens"))


def _without_lm(parameter: Any) -> Any:
    return {**parameter, "lm": None} if isinstance(parameter, Mapping) and "lm" in parameter else parameter
