"""Steps that wait for a permit of one limit: there may be very many, and each turn is about a few of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass

from dspex_bus import subjects


@dataclass(slots=True, eq=False)
class Step:
    """``lacks`` are the limits it has no permit of yet; it waits for the first. ``rank`` is its lane's."""

    holder: str
    session: str
    rank: int
    names: tuple[str, ...]
    lacks: list[str]
    send: Callable[[], Awaitable[None]]


class Waiting(Collection[str]):
    """As holders, the urgent first, then as they came; only those of sessions that are ``alive``."""

    def __init__(self, alive: Callable[[str], bool]) -> None:
        self._alive = alive
        self._lanes: tuple[dict[str, Step], ...] = tuple({} for _ in subjects.LANES)
        self._lost: list[Step] = []

    def add(self, step: Step) -> None:
        self._lanes[step.rank][step.holder] = step

    def remove(self, step: Step) -> None:
        """Nothing where it is another one, or none."""
        lane = self._lanes[step.rank]
        if lane.get(step.holder) is step:
            del lane[step.holder]

    def get(self, holder: str) -> Step | None:
        found = next((lane[holder] for lane in self._lanes if holder in lane), None)
        return found if found is not None and self._alive(found.session) else None

    def lost(self) -> list[Step]:
        """Those met since the last time whose sessions have gone; they wait no more."""
        lost, self._lost = self._lost, []
        for step in lost:
            self.remove(step)
        return lost

    def __len__(self) -> int:
        return sum(map(len, self._lanes))

    def __contains__(self, holder: object) -> bool:
        return isinstance(holder, str) and self.get(holder) is not None

    def __iter__(self) -> Iterator[str]:
        for lane in self._lanes:
            for step in lane.values():
                if self._alive(step.session):
                    yield step.holder
                else:
                    self._lost.append(step)
