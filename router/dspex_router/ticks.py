"""When a schedule ticks. Pure: times are milliseconds since the epoch, and nobody looks at a clock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from itertools import count, islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import ScheduleDefinition

_MOST = 1000
"""Missed ticks that are made up for at most: the newest."""


def check(definition: ScheduleDefinition) -> None:
    """Raises InvalidRequest where nobody could tell when it ticks, or what it runs."""
    kinds = {"cron": definition.cron, "every_s": definition.every_s, "at": definition.at}
    given = [kind for kind, value in kinds.items() if value is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise InvalidRequest(f"schedule {definition.name!r}: one of cron, every_s and at says when; there is {found}")
    if definition.every_s is not None and definition.every_s < 0.001:
        raise InvalidRequest(f"schedule {definition.name!r}: every {definition.every_s:g} s is less than a millisecond")
    if (definition.pipeline is None) == (definition.definition is None):
        raise InvalidRequest(f"schedule {definition.name!r}: either 'pipeline' or 'definition' says what to run")
    next(ticks(definition, 0), None)


def ticks(definition: ScheduleDefinition, after_ms: int) -> Iterator[int]:
    """Every tick after a time, in order."""
    if definition.cron is not None:
        yield from _cron(definition, definition.cron, after_ms)
    elif definition.every_s is not None:
        step = _step_ms(definition.every_s)
        yield from count(after_ms // step * step + step, step)
    elif definition.at is not None:
        at = _moment(definition, definition.at)
        if at > after_ms:
            yield at


def due(definition: ScheduleDefinition, after_ms: int, now_ms: int, *, late_ms: int) -> list[int]:
    """The ticks to do now: those after ``after_ms`` that have come, less the missed ones (more than ``late_ms`` ago)
    that are not made up for."""
    come = list(_until(definition, after_ms, now_ms))
    if definition.missed == "all" or not come:
        return come
    missed = [tick for tick in come if tick < now_ms - late_ms]
    fresh = come[len(missed) :]
    return fresh if definition.missed == "none" or fresh else missed[-1:]


def _until(definition: ScheduleDefinition, after_ms: int, now_ms: int) -> list[int]:
    """The last ``_MOST`` ticks that have come. Those are looked for from now on backwards: a quick schedule may have
    missed very many."""
    come = list(islice(takewhile(lambda tick: tick > after_ms, _back(definition, now_ms)), _MOST))
    return come[::-1]


def _back(definition: ScheduleDefinition, now_ms: int) -> Iterator[int]:
    """Every tick up to now, the latest first."""
    if definition.cron is not None:
        yield from _cron(definition, definition.cron, now_ms + 1, back=True)
    elif definition.every_s is not None:
        step = _step_ms(definition.every_s)
        yield from range(now_ms // step * step, 0, -step)
    elif definition.at is not None and (at := _moment(definition, definition.at)) <= now_ms:
        yield at


def upcoming(definition: ScheduleDefinition, after_ms: int, count: int) -> tuple[int, ...]:
    return () if definition.paused else tuple(islice(ticks(definition, after_ms), count))


def session_id(definition: ScheduleDefinition, tick_ms: int) -> str:
    """``nightly-20261125T180000Z``; with milliseconds where the tick has some."""
    seconds, milliseconds = divmod(tick_ms, 1000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%S")
    return f"{definition.name}-{text}{f'_{milliseconds:03}' if milliseconds else ''}Z"


def _cron(definition: ScheduleDefinition, expression: str, from_ms: int, *, back: bool = False) -> Iterator[int]:
    start = datetime.fromtimestamp(from_ms / 1000, _zone(definition))
    try:
        simulated = CronSim(expression, start, reverse=back)
    except CronSimError as error:
        raise InvalidRequest(
            f"schedule {definition.name!r}: cron {expression!r} cannot be read: {error}; it is 'minute hour day month "
            "weekday', such as '30 6 * * MON-FRI'"
        ) from error
    for moment in simulated:
        yield int(moment.timestamp() * 1000)


def _step_ms(every_s: float) -> int:
    return max(1, round(every_s * 1000))


def _moment(definition: ScheduleDefinition, text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(
            f"schedule {definition.name!r}: at {text!r} is no ISO 8601 moment, such as '2026-12-24T18:00:00+01:00'"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=_zone(definition))
    return int(moment.timestamp() * 1000)


def _zone(definition: ScheduleDefinition) -> tzinfo:
    try:
        return UTC if definition.timezone == "UTC" else ZoneInfo(definition.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(
            f"schedule {definition.name!r}: there is no timezone {definition.timezone!r}, such as 'Europe/Berlin'"
        ) from error
