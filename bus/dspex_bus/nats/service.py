"""Serving requests under the NATS micro protocol, so that ``$SRV.PING``, ``INFO`` and ``STATS`` know of us."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from .._headers import SERVICE_ERROR, SERVICE_ERROR_CODE
from ..bus import Endpoint, Headers, Message, Request, ServiceSpec, Subscription
from .connection import Connection


class NatsRequest(Request):
    __slots__ = ("_connection", "_counts")

    def __init__(self, connection: Connection, message: Message, counts: Counts) -> None:
        self._connection = connection
        self._counts = counts
        self.subject: str = message.subject
        self.data: bytes = message.data
        self.headers: Headers | None = message.headers
        self.reply: str = message.reply

    async def respond(self, data: bytes, headers: Headers | None = None) -> None:
        await self._connection.publish(self.reply, data, "", headers)

    async def respond_error(self, status: int, description: str, data: bytes, headers: Headers | None = None) -> None:
        line = " ".join(description.split())
        self._counts.errors += 1
        self._counts.last_error = f"{status}:{line}"
        failed = {**(headers or {}), SERVICE_ERROR_CODE: str(status), SERVICE_ERROR: line}
        await self._connection.publish(self.reply, data, "", failed)


class Counts:
    """What ``STATS`` says of one endpoint."""

    __slots__ = ("errors", "last_error", "requests", "took_ns")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.last_error = ""
        self.took_ns = 0


class NatsService(Subscription):
    def __init__(self, connection: Connection, spec: ServiceSpec) -> None:
        self._connection = connection
        self._spec = spec
        self._id = uuid.uuid4().hex
        self._started = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._counts = {endpoint.name: Counts() for endpoint in spec.endpoints}
        self._parts: list[Subscription] = []

    async def open(self) -> None:
        for endpoint in self._spec.endpoints:
            handle = self._handler(endpoint)
            self._parts.append(await self._connection.subscribe(endpoint.subject, handle, self._spec.queue))
        for verb, describe in (("PING", self._ping), ("INFO", self._info), ("STATS", self._stats)):
            for tail in ("", f".{self._spec.name}", f".{self._spec.name}.{self._id}"):
                self._parts.append(await self._connection.subscribe(f"$SRV.{verb}{tail}", self._teller(describe)))
        await self._connection.flush()

    async def close(self) -> None:
        for part in self._parts:
            await part.close()
        self._parts.clear()

    def _handler(self, endpoint: Endpoint) -> Any:
        counts = self._counts[endpoint.name]

        async def on_message(message: Message) -> None:
            began = time.perf_counter_ns()
            counts.requests += 1
            await endpoint.handle(NatsRequest(self._connection, message, counts))
            counts.took_ns += time.perf_counter_ns() - began

        return on_message

    def _teller(self, describe: Any) -> Any:
        async def on_message(message: Message) -> None:
            if message.reply:
                await self._connection.publish(message.reply, msgspec.json.encode(describe()), "", None)

        return on_message

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

    def _info(self) -> dict[str, Any]:
        endpoints = [
            {
                "name": endpoint.name,
                "subject": endpoint.subject,
                "queue_group": self._spec.queue,
                "metadata": dict(endpoint.metadata),
            }
            for endpoint in self._spec.endpoints
        ]
        return {**self._about("info"), "description": self._spec.description, "endpoints": endpoints}

    def _stats(self) -> dict[str, Any]:
        endpoints = []
        for endpoint in self._spec.endpoints:
            counts = self._counts[endpoint.name]
            endpoints.append(
                {
                    "name": endpoint.name,
                    "subject": endpoint.subject,
                    "queue_group": self._spec.queue,
                    "num_requests": counts.requests,
                    "num_errors": counts.errors,
                    "last_error": counts.last_error,
                    "processing_time": counts.took_ns,
                    "average_processing_time": counts.took_ns // max(1, counts.requests),
                }
            )
        return {**self._about("stats"), "started": self._started, "endpoints": endpoints}
