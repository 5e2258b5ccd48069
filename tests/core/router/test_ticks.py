"""When schedules tick: a table of moments."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import Any

import pytest

from dspex_bus.errors import InvalidRequest
from dspex_bus.wire import PipelineDefinition, ScheduleDefinition, StepDefinition
from dspex_router.ticks import check, due, session_id, ticks, upcoming

LATE_MS = 60_000


def schedule(**given: Any) -> ScheduleDefinition:
    return ScheduleDefinition(**{"name": "nightly", "pipeline": "report", **given})


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def texts(moments: Any) -> list[str]:
    return [datetime.fromtimestamp(moment / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") for moment in moments]


def test_cron_in_utc() -> None:
    found = islice(ticks(schedule(cron="30 3 * * MON"), ms("2026-11-25T12:00:00")), 2)
    assert texts(found) == ["2026-11-30 03:30:00", "2026-12-07 03:30:00"]


def test_cron_with_seconds() -> None:
    found = islice(ticks(schedule(cron="*/20 * * * * *"), ms("2026-11-25T12:00:00")), 3)
    assert texts(found) == ["2026-11-25 12:00:20", "2026-11-25 12:00:40", "2026-11-25 12:01:00"]


def test_cron_keeps_local_time_when_the_clocks_change() -> None:
    found = islice(ticks(schedule(cron="0 6 * * *", timezone="Europe/Berlin"), ms("2026-10-24T00:00:00")), 3)
    assert texts(found) == ["2026-10-24 04:00:00", "2026-10-25 05:00:00", "2026-10-26 05:00:00"]


def test_a_local_time_that_there_is_twice_ticks_once() -> None:
    found = islice(ticks(schedule(cron="30 2 * * *", timezone="Europe/Berlin"), ms("2026-10-24T12:00:00")), 2)
    assert texts(found) == ["2026-10-25 00:30:00", "2026-10-26 01:30:00"]


def test_every_so_often_is_counted_from_the_epoch() -> None:
    found = islice(ticks(schedule(every_s=90.0), ms("2026-11-25T12:00:01")), 2)
    assert texts(found) == ["2026-11-25 12:01:30", "2026-11-25 12:03:00"]


def test_once() -> None:
    at = schedule(at="2026-12-24T18:00:00+01:00")
    assert texts(ticks(at, ms("2026-12-24T16:00:00"))) == ["2026-12-24 17:00:00"]
    assert texts(ticks(at, ms("2026-12-24T17:00:00"))) == []
    assert texts(ticks(schedule(at="2026-12-24T18:00:00", timezone="America/New_York"), 0)) == ["2026-12-24 23:00:00"]


NOW = ms("2026-11-25T12:00:30")


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        ("latest", ["2026-11-25 12:00:00"]),
        ("none", ["2026-11-25 12:00:00"]),
        ("all", ["2026-11-25 09:00:00", "2026-11-25 10:00:00", "2026-11-25 11:00:00", "2026-11-25 12:00:00"]),
    ],
)
def test_due_with_a_fresh_tick(missed: str, expected: list[str]) -> None:
    hourly = schedule(cron="0 * * * *", missed=missed)
    assert texts(due(hourly, ms("2026-11-25T08:30:00"), NOW, late_ms=LATE_MS)) == expected


@pytest.mark.parametrize(
    ("missed", "expected"),
    [("latest", ["2026-11-25 11:00:00"]), ("none", []), ("all", ["2026-11-25 10:00:00", "2026-11-25 11:00:00"])],
)
def test_due_with_missed_ticks_only(missed: str, expected: list[str]) -> None:
    hourly = schedule(cron="0 * * * *", missed=missed)
    now = ms("2026-11-25T11:30:00")
    assert texts(due(hourly, ms("2026-11-25T09:30:00"), now, late_ms=LATE_MS)) == expected


def test_a_tick_is_due_at_its_very_moment_and_once() -> None:
    for when in ({"cron": "0 * * * *"}, {"every_s": 3600.0}, {"at": "2026-11-25T12:00:00"}):
        noon = ms("2026-11-25T12:00:00")
        assert due(schedule(**when), noon - 1000, noon - 1, late_ms=LATE_MS) == []
        assert due(schedule(**when), noon - 1000, noon, late_ms=LATE_MS) == [noon]
        assert due(schedule(**when), noon, noon + 5, late_ms=LATE_MS) == []


@pytest.mark.parametrize("when", [{"cron": "* * * * * *"}, {"every_s": 0.01}])
def test_a_long_outage_of_a_quick_schedule(when: dict[str, Any]) -> None:
    found = due(schedule(missed="all", **when), 0, NOW, late_ms=LATE_MS)
    assert len(found) == 1000
    assert found == sorted(found)
    assert found[-1] == NOW


def test_what_is_to_come() -> None:
    assert len(upcoming(schedule(every_s=1.0), 0, 3)) == 3
    assert upcoming(schedule(every_s=1.0, paused=True), 0, 3) == ()


def test_a_tick_has_one_session() -> None:
    assert session_id(schedule(every_s=1.0), ms("2026-11-25T12:00:00")) == "nightly-20261125T120000Z"
    assert session_id(schedule(every_s=0.5), ms("2026-11-25T12:00:00") + 500) == "nightly-20261125T120000_500Z"


OWN = PipelineDefinition(name="own", steps=(StepDefinition(native="template"),))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "there is none of them"),
        ({"cron": "* * * * *", "at": "2026-01-01"}, "cron and at"),
        ({"cron": "61 * * * *"}, "cron '61 \\* \\* \\* \\*' cannot be read: Bad minute"),
        ({"cron": "30 3"}, "Wrong number of fields"),
        ({"at": "tomorrow"}, "at 'tomorrow' is no ISO 8601 moment"),
        ({"cron": "* * * * *", "timezone": "Europe/Atlantis"}, "no timezone 'Europe/Atlantis'"),
        ({"cron": "* * * * *", "timezone": "../etc/passwd"}, "no timezone"),
        ({"every_s": 1.0, "pipeline": None}, "says what to run"),
        ({"every_s": 1.0, "definition": OWN}, "says what to run"),
    ],
)
def test_what_cannot_be_a_schedule(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        check(schedule(**given))


def test_what_can_be_a_schedule() -> None:
    check(schedule(pipeline=None, definition=OWN, cron="0 0 29 2 *"))
