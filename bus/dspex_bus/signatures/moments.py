"""Reading dates, times, durations, decimals and UUIDs from the forms they have in JSON."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

_DAY = r"\d{4}-\d\d-\d\d"
_CLOCK = r"\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:[Zz]|[-+]\d\d:?[0-5]\d)?"
_ISO_DATE = re.compile(_DAY, re.ASCII)
_ISO_TIME = re.compile(_CLOCK, re.ASCII)
_ISO_BOTH = re.compile(f"{_DAY}(?:[Tt _]{_CLOCK})?", re.ASCII)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)", re.ASCII)
_HEX = re.compile(r"(?:urn:uuid:)?[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}|[\da-f]{32}", re.ASCII | re.IGNORECASE)
_SECONDS = r"[0-5]\d(?:[.,]\d+)?"
_SPAN = re.compile(
    r"(?P<sign>[-+]?)(?=.)(?:(?P<days>\d+)\s?(?:d|days?),?\s?)?"
    rf"(?:(?P<h>(?(days)\d\d|\d\d+)):(?P<m>[0-5]\d)(?::(?P<s>{_SECONDS}))?|(?P<h1>\d):(?P<m1>[0-5]\d):(?P<s1>{_SECONDS}))?",
    re.ASCII | re.IGNORECASE,
)
_ISO_UNITS = {"Y": 365 * 86_400, "M": 30 * 86_400, "W": 7 * 86_400, "D": 86_400, "h": 3600, "m": 60, "s": 1}
_ISO_SPAN = re.compile(
    r"(?P<sign>[-+]?)P(?=.)"
    + "".join(rf"(?:(?P<{unit}>\d+(?:[.,]\d+)?){unit})?" for unit in "YMWD")
    + "(?:T(?=.)"
    + "".join(rf"(?:(?P<{unit}>\d+(?:[.,]\d+)?){unit.upper()})?" for unit in "hms")
    + ")?",
    re.ASCII,
)
_MILLISECONDS = 2e10
"""A count since 1970 larger than this is in milliseconds, as pydantic takes it: in seconds it would be past 2600."""


_BRACED = 38


class Moment(NamedTuple):
    type: type
    expected: str
    read: Callable[[Any], Any]
    """From text or a number; raises ValueError, TypeError or OverflowError."""


def _datetime(value: Any) -> datetime:
    if isinstance(value, str):
        if _ISO_BOTH.fullmatch(value):
            return datetime.fromisoformat(value.upper().replace("_", "T", 1))
        if not _NUMBER.fullmatch(value):
            raise ValueError("not a date and time")
        value = float(value)
    elif type(value) is date:
        return datetime(value.year, value.month, value.day)
    seconds = value / 1000 if abs(value) > _MILLISECONDS else value
    return datetime.fromtimestamp(seconds, UTC)


def _date(value: Any) -> date:
    if isinstance(value, str) and _ISO_DATE.fullmatch(value):
        return date.fromisoformat(value)
    moment = value if isinstance(value, datetime) else _datetime(value)
    if moment.time() != time():
        raise ValueError("the time is not midnight")
    return moment.date()


def _time(value: Any) -> time:
    if isinstance(value, str):
        if not _ISO_TIME.fullmatch(value):
            raise ValueError("not a time")
        return time.fromisoformat(value.upper())
    if not 0 <= value < 86_400:
        raise ValueError("not a time of day")
    return (datetime.min + timedelta(seconds=value)).time().replace(tzinfo=UTC)


def _timedelta(value: Any) -> timedelta:
    if not isinstance(value, str):
        return timedelta(seconds=value)
    if (iso := _ISO_SPAN.fullmatch(value)) is not None:
        parts = [(_number(iso[unit]), each) for unit, each in _ISO_UNITS.items() if iso[unit]]
        return _signed(iso["sign"], timedelta(seconds=sum(count * each for count, each in parts)))
    match = _SPAN.fullmatch(value)
    if match is None:
        raise ValueError("not a duration")
    hours, minutes = match["h"] or match["h1"] or 0, match["m"] or match["m1"] or 0
    span = timedelta(days=int(match["days"] or 0), hours=int(hours), minutes=int(minutes))
    return _signed(match["sign"], span + timedelta(seconds=_number(match["s"] or match["s1"] or "0")))


def _number(text: str) -> float:
    """To the microsecond, without rounding up."""
    whole, _, rest = text.replace(",", ".").partition(".")
    return float(f"{whole}.{rest[:6]}")


def _signed(sign: str, span: timedelta) -> timedelta:
    return -span if sign == "-" else span


def _decimal(value: Any) -> Decimal:
    number = Decimal(str(value).strip())
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number


def _uuid(value: Any) -> UUID:
    if not isinstance(value, str):
        raise TypeError("a UUID is written as text")
    braced = value.startswith("{") and value.endswith("}") and len(value) == _BRACED
    if not _HEX.fullmatch(value[1:-1] if braced else value):
        raise ValueError("not a UUID")
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
