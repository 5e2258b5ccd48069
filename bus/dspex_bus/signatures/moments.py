"""Reading dates, times, durations, decimals and UUIDs from the forms they have in JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ISO_START = re.compile(r"\d{4}-\d\d-\d\d(?:[Tt _]\d\d:\d\d|$)")
_CLOCK = re.compile(r"\d\d:\d\d(?::\d\d|$|[Zz+.-])")
_SPAN = re.compile(
    r"(?P<sign>[-+]?)(?:(?P<days>\d+)\s*(?:d|day|days)?,?\s+)?(?P<h>\d+):(?P<m>\d\d)(?::(?P<s>\d\d(?:\.\d+)?))?"
)
_MILLISECONDS = 2e10
"""A count since 1970 larger than this is in milliseconds, as pydantic takes it: in seconds it would be past 2600."""


class Moment(NamedTuple):
    type: type
    expected: str
    read: Callable[[Any], Any]
    """From text or a number; raises ValueError, TypeError or OverflowError."""


def _datetime(value: Any) -> datetime:
    if isinstance(value, str):
        text = value.strip()
        if _ISO_START.match(text):
            return datetime.fromisoformat(text.replace("_", "T", 1))
        value = float(text)
    elif type(value) is date:
        return datetime(value.year, value.month, value.day)
    seconds = value / 1000 if abs(value) > _MILLISECONDS else value
    return datetime.fromtimestamp(seconds, UTC)


def _date(value: Any) -> date:
    if isinstance(value, str) and _ISO_DATE.fullmatch(value.strip()):
        return date.fromisoformat(value.strip())
    moment = value if isinstance(value, datetime) else _datetime(value)
    if moment.time() != time():
        raise ValueError("the time is not midnight")
    return moment.date()


def _time(value: Any) -> time:
    if isinstance(value, str):
        if not _CLOCK.match(value):
            raise ValueError("not a time")
        return time.fromisoformat(value)
    if not 0 <= value < 86_400:
        raise ValueError("not a time of day")
    return (datetime.min + timedelta(seconds=value)).time().replace(tzinfo=UTC)


def _timedelta(value: Any) -> timedelta:
    if not isinstance(value, str):
        return timedelta(seconds=value)
    match = _SPAN.fullmatch(value.strip())
    if match is None:
        return msgspec.convert(value, timedelta)
    span = timedelta(
        days=int(match["days"] or 0), hours=int(match["h"]), minutes=int(match["m"]), seconds=float(match["s"] or 0)
    )
    return -span if match["sign"] == "-" else span


def _decimal(value: Any) -> Decimal:
    number = Decimal(str(value).strip())
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number


def _uuid(value: Any) -> UUID:
    if not isinstance(value, str):
        raise TypeError("a UUID is written as text")
    return UUID(value)


MOMENTS: dict[str, Moment] = {
    "datetime.datetime": Moment(datetime, "a date and time (2024-05-31T12:30:00)", _datetime),
    "datetime.date": Moment(date, "a date (2024-05-31)", _date),
    "datetime.time": Moment(time, "a time (12:30:00)", _time),
    "datetime.timedelta": Moment(timedelta, "a duration (PT1H30M)", _timedelta),
    "decimal.Decimal": Moment(Decimal, "a decimal number", _decimal),
    "uuid.UUID": Moment(UUID, "a UUID", _uuid),
}
"""Canonical type name -> how it is read."""
