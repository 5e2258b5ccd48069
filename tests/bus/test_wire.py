"""Messages: both encodings, errors that name the place, and errors that travel."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from dspex_bus import errors, wire
from dspex_bus.wire import (
    JSON,
    MSGPACK,
    CancelRequested,
    ErrorInfo,
    JournalEvent,
    Plan,
    RunRequest,
    SequenceNode,
    SessionAccepted,
    SessionEnded,
    SessionPaused,
    SessionResumed,
    SessionSnapshot,
    SignalReceived,
    SleepNode,
    StepCancelled,
    StepFailed,
    StepLost,
    StepSucceeded,
    StepTimedOut,
    TokenPiece,
    TokensEnded,
    TokensStarted,
    TokenStatus,
    content_type,
    decode,
    decode_event,
    decode_outcome,
    decode_tokens,
    encode,
    encode_event,
    error_from,
    error_info,
    event_type,
    plans,
)

PLAN = Plan(
    pipeline="p",
    digest="d",
    root=SequenceNode(id="root", name="p", children=(SleepNode(id="0", name="s", duration_ms=1),)),
)
ERROR = ErrorInfo(code="x", message="m", retryable=True, details={"a": [1, None]})
EVENTS: list[JournalEvent] = [
    SessionAccepted(session="s", plan=PLAN, input={"falsy": [0, False, "", None, [], {}]}, deadline_ms=1),
    StepSucceeded(outputs={"a": {"b": [1.5, "é", None]}}, usage=wire.Usage(calls=1, model="m")),
    StepFailed(error=ERROR, retry_after_ms=5),
    StepTimedOut(error=ERROR),
    StepCancelled(reason="r"),
    StepLost(error=ERROR, deliveries=3),
    CancelRequested(reason="r"),
    SessionPaused(reason="r"),
    SessionResumed(),
    SessionSnapshot(through=7, length=3, due=9, objects=("s.step.0",), state={"a": [None, {}]}),
    SignalReceived(name="n", id="i", payload={"a": 0}),
    SessionEnded(status="succeeded", output={}),
]


@pytest.mark.parametrize("event", EVENTS, ids=event_type)
def test_events_travel_as_cloud_events(event: JournalEvent) -> None:
    data, headers = encode_event(event, "dspex.v1.journal.0.s.x")
    assert decode_event(data, subject="x") == event
    assert headers["ce-type"] == event_type(event) == f"dspex.{json.loads(data)['type']}"
    assert (headers["ce-specversion"], headers["ce-id"]) == ("1.0", "dspex.v1.journal.0.s.x")


def test_every_event_is_among_them() -> None:
    tags = {kind.__struct_config__.tag for kind in JournalEvent.__args__}  # type: ignore[attr-defined]
    assert tags == {event.__struct_config__.tag for event in EVENTS}


@pytest.mark.parametrize("content", [JSON, MSGPACK])
def test_both_encodings(content: str) -> None:
    request = RunRequest(input={"a": [1, None, False, ""]}, session="mine", timeout_s=1.5)
    assert decode(RunRequest, encode(request, content), subject="x", content=content) == request
    assert decode(RunRequest, b"", subject="x", content=content) == RunRequest()
    with pytest.raises(errors.DecodeError):
        decode(RunRequest, b"\xff\xff", subject="x", content=content)


def test_the_content_type_is_json_unless_said_otherwise() -> None:
    assert content_type(None) == content_type({}) == content_type({"Content-Type": "text/plain"}) == JSON
    assert content_type({"Content-Type": MSGPACK}) == MSGPACK
    assert content_type({"Content-Type": "Application/MsgPack; q=1"}) == MSGPACK


MALFORMED: dict[str, tuple[bytes, str]] = {
    "cut off": (b'{"input": {', "malformed"),
    "a wrong type": (b'{"input": 7}', "$.input"),
    "an unknown field": (b'{"inputs": {}}', "inputs"),
    "a session that is no token": (b'{"session": "a.b"}', "$.session"),
    "a session with a line break": (b'{"session": "a\\n"}', "$.session"),
    "no time at all": (b'{"timeout_s": 0}', "$.timeout_s"),
    "a list": (b"[]", "object"),
    "no text": (b'"\xff"', "malformed"),
    "nested without end": (b"[" * 100_000, "malformed"),
}


@pytest.mark.parametrize(("data", "told"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_messages_name_the_place(data: bytes, told: str) -> None:
    with pytest.raises(errors.DecodeError) as caught:
        decode(RunRequest, data, subject="dspex.v1.run.x")
    assert told in caught.value.message
    assert (caught.value.code, caught.value.subject, caught.value.raw) == ("malformed_message", "dspex.v1.run.x", data)


def test_an_outcome_is_no_other_event() -> None:
    data, _ = encode_event(CancelRequested(), "x")
    with pytest.raises(errors.DecodeError):
        decode_outcome(data, subject="x")


def test_old_messages_are_read_with_the_defaults_of_new_fields() -> None:
    event = decode_event(b'{"type":"session.ended","status":"failed","later":1}', subject="x")
    assert event == SessionEnded(status="failed")


@pytest.mark.parametrize("kind", sorted(errors.all_errors().values(), key=lambda kind: kind.__name__))
def test_errors_travel(kind: type[errors.DspexError]) -> None:
    original = kind.__new__(kind)
    errors.DspexError.__init__(original, "what to do", details={"a": 1})
    back = error_from(msgspec.json.decode(encode(error_info(original)), type=ErrorInfo))
    assert type(back) is kind
    assert (back.code, back.message, back.details, back.retryable) == (
        original.code,
        "what to do",
        {"a": 1},
        original.retryable,
    )


@pytest.mark.parametrize(
    ("status", "kind"), [(400, errors.InvalidRequest), (404, errors.NotFound), (409, errors.Conflict), (500, None)]
)
def test_a_code_without_a_class_is_known_by_the_reply_s_status(
    status: int, kind: type[errors.DspexError] | None
) -> None:
    back = error_from(ErrorInfo(code="missing_field", message="m"), status)
    assert type(back) is (kind or errors.DspexError)
    assert (back.code, back.retryable) == ("missing_field", False)
    assert type(error_from(ErrorInfo(code="disconnected", message="m"), status)) is errors.Disconnected


def test_an_error_that_has_travelled_tells_what_the_original_told() -> None:
    for original in (
        errors.DecodeError("m", subject="a.b", raw=b"x"),
        errors.InvalidPipeline("m", path="steps[0]"),
    ):
        back = error_from(error_info(original))
        assert back.message == original.message
        for name in ("subject", "path"):
            assert getattr(back, name, None) == getattr(original, name, None)
    assert error_from(error_info(errors.DecodeError("m", subject="s", raw=b"x"))).raw == b""  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [JSON, MSGPACK])
@pytest.mark.parametrize("event", EVENTS, ids=event_type)
def test_events_in_both_encodings(event: JournalEvent, content: str) -> None:
    assert decode(JournalEvent, encode(event, content), subject="x", content=content) == event  # type: ignore[arg-type]


def test_a_task_travels() -> None:
    task = wire.Task(session="s", node="0", attempt=1, partition=3, handler="h", timeout_ms=5, deadline_ms=9)
    assert wire.decode_task(encode(task), subject="x") == task
    with pytest.raises(errors.DecodeError, match="session"):
        wire.decode_task(b"{}", subject="x")


def test_codes_are_each_error_s_own_and_stable() -> None:
    codes = list(errors.all_errors())
    assert len(set(codes)) == len(codes)
    stable = {
        "internal",
        "invalid_request",
        "not_permitted",
        "unavailable",
        "malformed_message",
        "invalid_name",
        "invalid_pipeline",
        "not_found",
        "payload_too_large",
        "disconnected",
    }
    stable |= {"no_router", "no_workers", "newer_journal", "deadline_exceeded", "store_failed", "conflict"}
    stable |= {"run_failed", "setup"}
    assert stable <= set(codes)


def test_a_code_nobody_knows_is_kept() -> None:
    found = error_from(ErrorInfo(code="of_their_own", message="m", retryable=True))
    assert (type(found), found.code, found.retryable) == (errors.DspexError, "of_their_own", True)


@pytest.mark.parametrize("error", [ValueError("boom"), KeyError("k")])
def test_errors_that_are_not_ours_are_internal_and_named(error: Any) -> None:
    info = error_info(error)
    assert (info.code, info.retryable) == ("internal", False)
    assert type(error).__name__ in info.message


def test_what_is_said_of_tokens_is_told_apart_by_its_type() -> None:
    said = [
        (TokensStarted(sequence=0, worker="w"), b'{"type":"started","sequence":0,"worker":"w"}'),
        (
            TokenPiece(sequence=1, field="answer", text="4"),
            b'{"type":"piece","sequence":1,"field":"answer","text":"4"}',
        ),
        (TokenStatus(sequence=2, text="t"), b'{"type":"status","sequence":2,"text":"t"}'),
        (TokensEnded(sequence=3, status="succeeded"), b'{"type":"ended","sequence":3,"status":"succeeded"}'),
    ]
    for message, data in said:
        assert encode(message) == data
        assert decode_tokens(data, subject="x") == message


def test_events_of_steps_that_travelled_together_are_spread_and_joined_again() -> None:
    then = (
        wire.Followed(node="1", outputs={"b": None}, started_ms=5, duration_us=6),
        wire.Followed(node="2", outputs={}, usage=wire.Usage(calls=1)),
    )
    first = StepSucceeded(outputs={"a": 1}, worker="w", started_ms=3, duration_us=4, program="p", then=then)
    plain = wire.StoredEvent(sequence=8, time_ms=0, event=StepCancelled())
    stored = wire.StoredEvent(sequence=7, time_ms=9, event=first, pool="native", node="0", attempt=2)
    spread = [*wire.spread(stored), *wire.spread(plain)]
    assert [(event.sequence, event.time_ms, event.pool) for event in spread[:3]] == [(7, 9, "native")] * 3
    assert [(event.node, event.attempt) for event in spread] == [("0", 2), ("1", 1), ("2", 1), ("", 0)]
    assert spread[1].event == StepSucceeded(outputs={"b": None}, worker="w", started_ms=5, duration_us=6)
    assert spread[0].event == msgspec.structs.replace(first, then=())
    assert wire.joined(spread) == [stored, plain]
    page = wire.EventPage(session="s", events=tuple(spread), next_after=8, ended=False)
    assert decode(wire.EventPage, encode(page), subject="x") == page


def test_what_older_releases_wrote_says_nothing_of_travelling_together() -> None:
    outcome = decode_outcome(b'{"type": "step.succeeded", "outputs": {}}', subject="x")
    assert isinstance(outcome, StepSucceeded)
    assert outcome.then == ()
    task = b'{"session":"s","node":"0","attempt":1,"partition":0,"handler":"h","timeout_ms":1,"deadline_ms":1}'
    assert wire.decode_task(task, subject="x").then == ()
    assert wire.encode(wire.decode_task(task, subject="x")) == task


def test_equal_plans_are_decoded_once_and_others_are_not_mixed_up() -> None:
    first = SessionAccepted(session="a", plan=PLAN, input={"n": 1}, deadline_ms=1, kept={"0": {"x": None}}, tenant="t")
    other = msgspec.structs.replace(first, plan=msgspec.structs.replace(PLAN, digest="e"))
    found = [decode_event(encode(event), subject="x") for event in (first, msgspec.structs.replace(first), other)]
    assert found == [first, first, other]
    assert isinstance(found[0], SessionAccepted)
    assert isinstance(found[1], SessionAccepted)
    assert found[0].plan is found[1].plan
    many = [
        msgspec.structs.replace(first, plan=msgspec.structs.replace(PLAN, digest=str(place))) for place in range(200)
    ]
    assert [decode_event(encode(event), subject="x") for event in many] == many


def test_large_plans_are_kept_too_but_not_without_end() -> None:
    first = SessionAccepted(session="a", plan=PLAN, input={}, deadline_ms=1)
    wide, wider = (msgspec.structs.replace(PLAN, digest="x" * size) for size in (200_000, 2_000_000))
    for plan, shared in ((wide, True), (wider, False)):
        one, same = (decode_event(encode(msgspec.structs.replace(first, plan=plan)), subject="x") for _ in range(2))
        assert isinstance(one, SessionAccepted)
        assert isinstance(same, SessionAccepted)
        assert one == same
        assert (one.plan is same.plan) == shared
    for place in range(50):
        other = msgspec.structs.replace(wide, digest=f"{place}{wide.digest}")
        decode_event(encode(msgspec.structs.replace(first, plan=other)), subject="x")
    assert sum(map(len, plans._kept)) == plans._kept_bytes <= 4 * 1024 * 1024


@pytest.mark.parametrize("plan", [b'{"pipeline": 1}', b"null", b'{"pipeline": "p"', b"[" * 100_000])
def test_a_plan_that_is_none_is_a_malformed_event(plan: bytes) -> None:
    data = b'{"type":"session.accepted","session":"s","input":{},"deadline_ms":1,"plan":' + plan + b"}"
    for _ in range(2):
        with pytest.raises(errors.DecodeError, match="on subj is malformed"):
            decode_event(data, subject="subj")
