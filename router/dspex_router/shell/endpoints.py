"""The public subjects: each request in a task of its own, each with exactly one answer."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from dspex_bus import Bus, Endpoint, Request, ServiceSpec, subjects
from dspex_bus.claim import Claims
from dspex_bus.errors import DspexError, Unavailable
from dspex_bus.wire import (
    CONTENT_TYPE,
    JSON,
    CallReply,
    CallRequest,
    CancelRequest,
    DeadLetter,
    DeadList,
    DeadListRequest,
    DeadRequest,
    EventPage,
    EventsRequest,
    ForkRequest,
    LimitList,
    LimitPut,
    LimitRequest,
    LimitView,
    PauseRequest,
    PipelineList,
    PipelinePut,
    PipelineRequest,
    PipelineView,
    PoolList,
    ResultRequest,
    RunRequest,
    RunResult,
    ScheduleList,
    SchedulePut,
    ScheduleRequest,
    ScheduleView,
    SessionList,
    SessionListRequest,
    SessionRequest,
    SessionView,
    SignalReply,
    SignalRequest,
    Submitted,
    content_type,
    decode,
    encode,
    error_info,
    refuse_deep,
)

from .admission import Overloaded
from .config import RouterConfig

if TYPE_CHECKING:
    from .calling import Calling
    from .dead import DeadLetters
    from .forking import Forking
    from .limits import Limits
    from .listing import Listing
    from .pipelines import Pipelines
    from .pools import Pools
    from .running import Running
    from .schedules import Schedules
    from .sessions import Sessions

log = logging.getLogger(__name__)

Answer = Callable[[Request, Any, str], Awaitable[Any]]

NAME = "dspex-router"


class Endpoints:
    """``add`` each subject with what answers it, then serve ``spec()``. Each request is answered in a task of
    ``group``. An answer of None means that it comes later."""

    def __init__(self, bus: Bus, config: RouterConfig, group: asyncio.TaskGroup, version: str) -> None:
        self._claims = Claims(bus)
        self._config = config
        self._group = group
        self._version = version
        self._busy = 0
        self._endpoints: list[Endpoint] = []

    def add(self, name: str, subject: str, kind: type[Any] | None, reply: type[Any], answer: Answer) -> None:
        async def handle(request: Request) -> None:
            if self._busy >= self._config.requests:
                error = Overloaded(
                    f"{self._busy} requests are being answered already; try again in a second",
                    details={"retry_after_s": 1},
                )
                await _refuse(request, content_type(request.headers), error)
                return
            answering = self._answer(request, kind, answer)
            try:
                self._group.create_task(answering)
            except RuntimeError:
                answering.close()
                await _refuse(request, content_type(request.headers), Unavailable("this router is leaving; ask again"))
            else:
                self._busy += 1

        metadata = {"reply": reply.__name__}
        if kind is not None:
            metadata["request"] = kind.__name__
            metadata["schema"] = _schema(kind)
        self._endpoints.append(Endpoint(name=name, subject=subject, handle=handle, metadata=metadata))

    def spec(self) -> ServiceSpec:
        return ServiceSpec(
            name=NAME,
            version=self._version,
            description="Keeps dspex sessions going and answers clients.",
            endpoints=self._endpoints,
            queue="router",
        )

    async def _answer(self, request: Request, kind: type[Any] | None, answer: Answer) -> None:
        content = content_type(request.headers)
        try:
            body = None if kind is None else await self._body(request, kind, content)
            said = await answer(request, body, content)
            if said is not None:
                data, headers = encode(said, content), {CONTENT_TYPE: content}
                await request.respond(*await self._claims.pack(request.reply, data, headers))
        except DspexError as error:
            await _refuse(request, content, error)
        except Exception as error:  # a mistake of ours: who asked shall not wait for his time-out
            log.exception("a request on %s could not be answered", request.subject)
            await _refuse(request, content, DspexError(f"{type(error).__name__}: {error}"))
        finally:
            self._busy -= 1
            if not request.data:
                await self._claims.drop(request.subject, request.headers)

    async def _body(self, request: Request, kind: type[Any], content: str) -> Any:
        data = await self._claims.unpack(request.subject, request.data, request.headers)
        body = decode(kind, data, subject=request.subject, content=content)
        refuse_deep(data if content == JSON else encode(body), request.subject)
        return body


async def _refuse(request: Request, content: str, error: DspexError) -> None:
    try:
        await request.respond_error(
            error.status, error.message, encode(error_info(error), content), {CONTENT_TYPE: content}
        )
    except DspexError as lost:
        log.warning("an error on %s could not be answered: %s", request.subject, lost)


def _schema(kind: type[Any]) -> str:
    """Small ones only: a service's INFO must fit into one message."""
    text = json.dumps(msgspec.json.schema(kind))
    return text if len(text) < 4096 else ""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What answers, by what it is about."""

    runs: Running
    calls: Calling
    sessions: Sessions
    listing: Listing
    forks: Forking
    letters: DeadLetters
    pipelines: Pipelines
    pools: Pools
    schedules: Schedules
    limits: Limits


def add_all(endpoints: Endpoints, parts: Parts) -> None:
    """Every public subject."""

    def of(function: Callable[[Any], Awaitable[Any]]) -> Answer:
        async def answer(_request: Request, body: Any, _content: str) -> Any:
            return await function(body)

        return answer

    def without(function: Callable[[], Awaitable[Any]]) -> Answer:
        async def answer(_request: Request, _body: Any, _content: str) -> Any:
            return await function()

        return answer

    async def call(request: Request, body: CallRequest, _content: str) -> CallReply:
        operation = request.subject.removeprefix(f"{subjects.ROOT}.call.")
        reply: CallReply = await parts.calls.call(operation, body)
        return reply

    add = endpoints.add
    add("run", f"{subjects.ROOT}.run.*", RunRequest, RunResult, parts.runs.run)
    add("submit", f"{subjects.ROOT}.submit.*", RunRequest, Submitted, parts.runs.submit)
    add("call", f"{subjects.ROOT}.call.>", CallRequest, CallReply, call)
    add("session-get", subjects.session("get"), SessionRequest, SessionView, of(parts.sessions.get))
    add("session-list", subjects.session("list"), SessionListRequest, SessionList, of(parts.listing.listed))
    add("session-result", subjects.session("result"), ResultRequest, RunResult, of(parts.sessions.result))
    add("session-events", subjects.session("events"), EventsRequest, EventPage, of(parts.sessions.events))
    add("session-cancel", subjects.session("cancel"), CancelRequest, SessionView, of(parts.sessions.cancel))
    add("session-pause", subjects.session("pause"), PauseRequest, SessionView, of(parts.sessions.pause))
    add("session-resume", subjects.session("resume"), PauseRequest, SessionView, of(parts.sessions.resume))
    add("session-signal", subjects.session("signal"), SignalRequest, SignalReply, of(parts.sessions.signal))
    add("session-retry", subjects.session("retry"), ForkRequest, Submitted, of(parts.forks.retry))
    add("session-fork", subjects.session("fork"), ForkRequest, Submitted, of(parts.forks.fork))
    add("letters-list", subjects.letters("list"), DeadListRequest, DeadList, of(parts.letters.list))
    add("letters-show", subjects.letters("show"), DeadRequest, DeadLetter, of(parts.letters.show))
    add("letters-retry", subjects.letters("retry"), DeadRequest, Submitted, of(parts.letters.retry))
    add("letters-drop", subjects.letters("drop"), DeadRequest, DeadLetter, of(parts.letters.drop))
    add("pipeline-put", subjects.pipeline("put"), PipelinePut, PipelineView, of(parts.pipelines.put))
    add("pipeline-get", subjects.pipeline("get"), PipelineRequest, PipelineView, of(parts.pipelines.get))
    add("pipeline-delete", subjects.pipeline("delete"), PipelineRequest, PipelineView, of(parts.pipelines.delete))
    add("pipeline-list", subjects.pipeline("list"), None, PipelineList, without(parts.pipelines.list))
    add("schedule-put", subjects.schedule("put"), SchedulePut, ScheduleView, of(parts.schedules.put))
    add("schedule-get", subjects.schedule("get"), ScheduleRequest, ScheduleView, of(parts.schedules.get))
    add("schedule-pause", subjects.schedule("pause"), ScheduleRequest, ScheduleView, of(parts.schedules.pause))
    add("schedule-resume", subjects.schedule("resume"), ScheduleRequest, ScheduleView, of(parts.schedules.resume))
    add("schedule-delete", subjects.schedule("delete"), ScheduleRequest, ScheduleView, of(parts.schedules.delete))
    add("schedule-list", subjects.schedule("list"), None, ScheduleList, without(parts.schedules.list))
    add("limit-put", subjects.limit("put"), LimitPut, LimitView, of(parts.limits.put))
    add("limit-delete", subjects.limit("delete"), LimitRequest, LimitView, of(parts.limits.delete))
    add("limit-list", subjects.limit("list"), None, LimitList, without(parts.limits.list))
    add("pools-list", subjects.pools("list"), None, PoolList, without(parts.pools.list))
