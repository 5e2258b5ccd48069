"""Others that are heard of regularly, and who of them has fallen silent."""

from __future__ import annotations


class Heard:
    """Who is looked for every ``every_s``, and is missed after ``fresh_s`` of silence. Times are of a clock that never
    jumps. What we did not live through ourselves (this process was stopped, its loop was blocked) is held against
    nobody: they may have said all they had to, and it has not come to us yet."""

    def __init__(self, every_s: float, fresh_s: float, now: float) -> None:
        self._every_s = every_s
        self._fresh_s = fresh_s
        self._looked = now
        self._at: dict[str, float] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._at

    def names(self) -> frozenset[str]:
        return frozenset(self._at)

    def hear(self, name: str, now: float) -> None:
        self._at[name] = now

    def drop(self, name: str) -> bool:
        """Whether it was there."""
        return self._at.pop(name, None) is not None

    def excuse(self, now: float) -> None:
        """Nobody could be heard until now."""
        self._at = dict.fromkeys(self._at, now)
        self._looked = now

    def silent(self, now: float) -> list[str]:
        """To be asked every ``every_s``."""
        missed = now - self._looked - self._every_s
        self._looked = now
        if missed > self._every_s:
            self._at = {name: min(at + missed, now) for name, at in self._at.items()}
        return [name for name, at in self._at.items() if at < now - self._fresh_s]
