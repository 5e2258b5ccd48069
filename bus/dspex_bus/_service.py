"""Serving requests under the NATS micro protocol, so that ``$SRV.PING``, ``INFO`` and ``STATS`` know of us."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from ._headers import SERVICE_ERROR, SERVICE_ERROR_CODE
from .bus import Endpoint, Headers, Message, Request, ServiceSpec, Subscription
from .wire.codec import encode, error_info

if TYPE_CHECKING:
    from .bus import Bus

logger = logging.getLogger("dspex.bus")


class Counts:
    """What ``STATS`` says of one endpoint."""

    __slots__ = ("errors", "last_error", "requests", "took_ns")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.took_ns = 0


class ServiceRequest(Request):
    __slots__ = ("_began", "_bus", "_counts")

    def __init__(self, bus: Bus, message: Message, counts: Counts) -> None:
        self._bus = bus
        self._counts = counts
        self._began = time.perf_counter_ns()
        self.subject: str = message.subject
        self.data: bytes = message.data
        self.headers: Headers | None = message.headers
        self.reply: str = message.reply
        counts.requests += 1

    async def respond(self, data: bytes, headers: Headers | None = None) -> None:
        self._counts.took_ns += time.perf_counter_ns() - self._began
        if self.reply:
            await self._bus.publish(self.reply, data, headers=headers)

    async def respond_error(self, status: int, description: str, data: bytes, headers: Headers | None = None) -> None:
        line = " ".join(description.split())
        self._counts.errors += 1
        self._counts.last_error = f"{status}:{line}"
        await self.respond(data, {**(headers or {}), SERVICE_ERROR_CODE: str(status), SERVICE_ERROR: line})


class Service(Subscription):
    def __init__(self, bus: Bus, spec: ServiceSpec) -> None:
        self._bus = bus
        self._spec = spec
        self._id = uuid.uuid4().hex
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._counts = {endpoint.name: Counts() for endpoint in spec.endpoints}
        self._parts: list[Subscription] = []

    async def open(self) -> None:
        """Everything answers when this returns."""
        spec = self._spec
        opening = [
            self._bus.subscribe(endpoint.subject, partial(self._on_request, endpoint), queue=spec.queue)
            for endpoint in spec.endpoints
        ]
        for verb, describe in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            for tail in ("", f".{spec.name}", f".{spec.name}.{self._id}"):
                opening.append(self._bus.subscribe(f"$SRV.{verb}{tail}", partial(self._tell, describe)))
        opened = await asyncio.gather(*opening, return_exceptions=True)
        self._parts = [part for part in opened if isinstance(part, Subscription)]
        for failed in opened:
            if isinstance(failed, BaseException):
                await self.close()
                raise failed

    async def close(self) -> None:
        parts, self._parts = self._parts, []
        await asyncio.gather(*(part.close() for part in parts))

    async def _on_request(self, endpoint: Endpoint, message: Message) -> None:
        request = ServiceRequest(self._bus, message, self._counts[endpoint.name])
        try:
            await endpoint.handle(request)
        except Exception as error:  # who asked shall hear of it, whatever it is
            logger.exception("the endpoint %s failed", endpoint.name)
            info = error_info(error)
            await request.respond_error(500, info.message, encode(info))

    async def _tell(self, describe: Callable[[], dict[str, Any]], message: Message) -> None:
        if message.reply:
            await self._bus.publish(message.reply, msgspec.json.encode(describe()))

    def _about(self, verb: str) -> dict[str, Any]:
        return {
            "type": f"io.nats.micro.v1.{verb}_response",
            "name": self._spec.name,
            "id": self._id,
            "version": self._spec.version,
            "metadata": dict(self._spec.metadata),
        }

    def _ping(self) -> dict[str, Any]:
        return self._about("ping")

    def _place(self, endpoint: Endpoint) -> dict[str, Any]:
        return {"name": endpoint.name, "subject": endpoint.subject, "queue_group": self._spec.queue}

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {**self._place(endpoint), "metadata": dict(endpoint.metadata)} for endpoint in self._spec.endpoints
        ]
        return {**self._about("info"), "description": self._spec.description, "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        endpoints = [
            {**self._place(endpoint), **_counted(self._counts[endpoint.name])} for endpoint in self._spec.endpoints
        ]
        return {**self._about("stats"), "started": self._started, "endpoints": endpoints}


def _counted(counts: Counts) -> dict[str, Any]:
    return {
        "num_requests": counts.requests,
        "num_errors": counts.errors,
        "last_error": counts.last_error,
        "processing_time": counts.took_ns,
        "average_processing_time": counts.took_ns // max(1, counts.requests),
    }
