"""Pipelines by chance: every kind of step in every other, with steps that fail, refuse, hang and kill their worker."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256

import dspex
from dspex_bus.wire import PipelineDefinition, RetryPolicy, StepDefinition

from .parts import POOL

SIGNAL = "go"
CHILDREN = ("child-0", "child-1", "child-2")
INPUT = {"items": [1, 2, 3, 4, 5], "flag": True}
LIMIT, AT_ONCE = "few", 3
_LARGE = 600 * 1024
_DEEPEST = 3


class Plans:
    """``deadly``: steps may kill the worker that runs them."""

    def __init__(self, chance: random.Random, *, deadly: bool = True) -> None:
        self._chance = chance
        self._deadly = deadly
        self._names = 0
        self._limited = True

    def child(self, name: str) -> PipelineDefinition:
        """One that other pipelines run as a step; it runs none itself. So many of them may run that none is under a
        limit: all others would wait for them to the end."""
        self._limited = False
        return dspex.pipeline(self._steps(_DEEPEST - 1, children=False), name=name)

    def pipeline(self) -> PipelineDefinition:
        return dspex.pipeline(self._steps(0, children=True), name="random")

    def carrying(self) -> tuple[PipelineDefinition, dict[str, str]]:
        """One that carries what no message does, with its input."""
        large = self._chance.randbytes(_LARGE // 2).hex()
        steps = [dspex.native("chaos.carry", pool=POOL) for _ in range(self._chance.randint(1, 3))]
        return dspex.pipeline(steps, name="carrying"), {"large": large, "digest": sha256(large.encode()).hexdigest()}

    def _steps(self, depth: int, *, children: bool) -> list[StepDefinition]:
        most = 4 if depth == 0 else 2
        return [self._one(depth, children) for _ in range(self._chance.randint(1, most))]

    def _one(self, depth: int, children: bool) -> StepDefinition:
        leaves: list[Callable[[], StepDefinition]] = [self._act] * 6 + [self._sleep, self._wait]
        if children:
            leaves.append(
                lambda: dspex.subpipeline(self._chance.choice(CHILDREN), save_as=self._name(), items=[1, 2, 3])
            )
        groups = [self._parallel, self._map, self._branch, self._loop]
        if depth < _DEEPEST and self._chance.random() < 0.4:
            return self._chance.choice(groups)(depth + 1, children)
        return self._chance.choice(leaves)()

    def _name(self) -> str:
        self._names += 1
        return f"v{self._names}"

    def _act(self) -> StepDefinition:
        chance = self._chance
        kind = chance.choices(
            ("ok", "again", "fail", "refuse", "hang", "die"), (70, 12, 5, 5, 5, 1 if self._deadly else 0)
        )
        script = {"again": ("fail", "ok"), "die": ("die", "ok")}.get(kind[0], kind)
        under: dict[str, object] = (
            {"limits": (LIMIT,), "under": LIMIT} if self._limited and chance.random() < 0.04 else {}
        )
        retry = RetryPolicy(attempts=chance.randint(1, 3), initial_s=chance.choice((0.0, 0.02, 0.3)))
        return dspex.native(
            chance.choice(("chaos.act", "chaos.act_along", "chaos.act_along")),
            pool=POOL,
            script=list(script),
            work_s=chance.choice((0.0, 0.0, 0.01, 0.1, 0.5)),
            timeout_s=0.8 if kind[0] == "hang" else 30,
            retry=retry,
            save_as=self._name(),
            **under,
        )

    def _sleep(self) -> StepDefinition:
        return dspex.sleep(self._chance.choice((0.01, 0.1, 0.5)))

    def _wait(self) -> StepDefinition:
        default = {"said": "nothing"} if self._chance.random() < 0.7 else None
        return dspex.wait(SIGNAL, timeout_s=self._chance.choice((0.2, 1.0, 3.0)), default=default, save_as=self._name())

    def _join(self, branches: int) -> dict[str, object]:
        chance = self._chance
        kind = chance.choice(("all", "all", "any", "quorum", "best_effort"))
        more: dict[str, object] = {"join": kind, "save_as": self._name()}
        if kind == "quorum":
            more["quorum"] = chance.randint(1, branches)
        if kind == "all" and chance.random() < 0.5:
            more["on_error"] = "collect"
        if kind == "best_effort" or chance.random() < 0.2:
            more["timeout_s"] = chance.choice((0.1, 0.5, 2.0))
        return more

    def _parallel(self, depth: int, children: bool) -> StepDefinition:
        count = self._chance.randint(2, 4)
        branches = [dspex.sequence(self._steps(depth, children=children)) for _ in range(count)]
        return dspex.parallel(branches, **self._join(count))  # type: ignore[arg-type]

    def _map(self, depth: int, children: bool) -> StepDefinition:
        join = self._join(len(INPUT["items"]))  # type: ignore[arg-type]
        return dspex.map("items", self._steps(depth, children=children), limit=self._chance.randint(1, 5), **join)  # type: ignore[arg-type]

    def _branch(self, depth: int, children: bool) -> StepDefinition:
        otherwise = self._steps(depth, children=children) if self._chance.random() < 0.5 else None
        when = self._chance.choice(("flag", "!flag"))
        return dspex.branch((when, self._steps(depth, children=children)), otherwise=otherwise)

    def _loop(self, depth: int, children: bool) -> StepDefinition:
        until = self._chance.choice(("flag", "!flag"))
        return dspex.loop(self._steps(depth, children=children), until=until, at_most=self._chance.randint(1, 3))
