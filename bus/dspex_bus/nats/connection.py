"""One lasting connection made of many: whatever ends one, the next takes over its subscriptions.

nats-py gives the protocol; when to connect again, and what then, is decided here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import socket
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

import nats.errors

from .._tasks import Tasks
from ..bus import Headers, OnMessage
from ..errors import Disconnected, InvalidName, NotPermitted, PayloadTooLarge, SetupError
from . import _websockets
from .client import OneConnection
from .headers import header_block
from .parsing import Deliver
from .subscription import LastingSubscription, Route

logger = logging.getLogger("dspex.bus")

OLDEST_SERVER = (2, 12)
"""Message scheduling came with 2.12."""
CONNECT_S = 5.0
WAIT_S = (0.05, 1.0)
"""Shortest and longest wait between attempts to connect again, with jitter."""
PING_S, PINGS = 3.0, 2
"""How often we ask whether the server is there, and how many of these may be unanswered."""
BUFFERED_BYTES = 2 * 1024 * 1024
_REFUSALS = ("authorization", "authentication", "nkey", "user account")


class Connection:
    """``servers`` is one URL or several, separated by commas. To who is not ``patient`` it is an answer that nothing
    listens there; else that is waited out as well: the server may be starting."""

    def __init__(
        self,
        servers: str,
        name: str,
        *,
        user: str | None = None,
        password: str | None = None,
        credentials: str | None = None,
        connect_timeout_s: float = CONNECT_S,
        patient: bool = True,
    ) -> None:
        self.servers = [url.strip() for url in servers.split(",")]
        self.tasks = Tasks()
        self.max_payload = 1024 * 1024
        self.name = name
        self._auth = {"user": user, "password": password, "user_credentials": credentials}
        self._timeout_s = connect_timeout_s
        self._patient = patient
        self._client: OneConnection | None = None
        self._routes: dict[Route, None] = {}
        self._subscriptions: dict[Route, LastingSubscription] = {}
        self._on_lost: list[Callable[[], None]] = []
        self._on_return: list[Callable[[], Awaitable[None]]] = []
        self._on_refused: list[Callable[[str, NotPermitted], None]] = []
        self._unsent: deque[tuple[str, bytes, str, bytes]] = deque()
        self._unsent_bytes = 0
        self._problem = "no attempt was made"
        self._vacant: set[str] = set()

    @property
    def connected(self) -> bool:
        return self._client is not None

    def when_lost(self, callback: Callable[[], None]) -> None:
        self._on_lost.append(callback)

    def when_back(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Awaited in the order given after every return of the connection: keep it short, and start tasks for more."""
        self._on_return.append(callback)

    def when_refused(self, callback: Callable[[str, NotPermitted], None]) -> None:
        """Called with a subject, in small letters, that the server did not let us publish to."""
        self._on_refused.append(callback)

    @staticmethod
    def new_inbox() -> str:
        return f"_INBOX.{uuid.uuid4().hex}"

    async def open(self) -> None:
        """Connect within ``connect_timeout_s``. Disconnected says what to check, SetupError what cannot work."""
        _websockets.allow(self.servers)
        try:
            async with asyncio.timeout(self._timeout_s):
                while self._client is None and not await self._connect():
                    if not self._patient and self._vacant.issuperset(self.servers):
                        raise self._nobody()
                    await asyncio.sleep(WAIT_S[0])
        except TimeoutError as error:
            raise self._nobody() from error
        self.tasks.start(self._keep_up(), f"{self.name}: connection")

    def _nobody(self) -> Disconnected:
        where = ", ".join(self.servers)
        if self._vacant.issuperset(self.servers):
            what = (
                f"nothing listens at {where} ({self._problem}); start a system with: dspex up, or give another address"
            )
        else:
            what = f"no NATS server answers at {where} ({self._problem}): is it running, and is the address right?"
        return Disconnected(what, details={"servers": self.servers})

    async def drain(self) -> None:
        """Nothing new comes in any more; what has come is handed over. Answers to what we ask still come."""
        await asyncio.gather(*(subscription.close() for subscription in list(self._subscriptions.values())))

    async def close(self) -> None:
        await self.tasks.close()
        client, self._client = self._client, None
        if client is not None:
            await client.abandon()

    async def publish(self, subject: str, data: bytes, reply: str, headers: Headers | None) -> None:
        await self.send(subject, data, reply, header_block(headers))

    async def send(
        self, subject: str, data: bytes, reply: str, headers: bytes, *, urgent: bool = True, later: bool = True
    ) -> None:
        """Hand to the connection; ``headers`` are as they travel. While it is away a little is kept and sent ``later``;
        more raises Disconnected."""
        self.check(subject, data, headers)
        await self.hand_on(subject, data, reply, headers, urgent=urgent, later=later)

    async def hand_on(
        self, subject: str, data: bytes, reply: str, headers: bytes, *, urgent: bool = True, later: bool = True
    ) -> None:
        """:meth:`send` for what was checked, or needs no check."""
        client = self._client
        if client is not None:
            try:
                if client.put(subject, data, reply, headers, urgent=urgent):
                    await client.drained()
                return
            except nats.errors.ConnectionClosedError:
                pass
        if not later:
            raise Disconnected("there is no connection to the server just now")
        size = len(data) + len(headers)
        if self._unsent_bytes + size > BUFFERED_BYTES:
            raise Disconnected(
                f"the connection to {self.servers[0]} is lost, and what waits for it is too much already"
            )
        self._unsent.append((subject, data, reply, headers))
        self._unsent_bytes += size

    def check(self, subject: str, data: bytes, headers: bytes) -> None:
        """InvalidName or PayloadTooLarge where it could not be sent."""
        if not subject or " " in subject or not subject.isprintable():
            raise InvalidName(f"{subject!r} cannot be a subject", details={"value": subject})
        size = len(data) + len(headers)
        if size > self.max_payload:
            raise PayloadTooLarge(
                f"{size:,} bytes for {subject}: the server carries at most {self.max_payload:,}",
                details={"size": size, "limit": self.max_payload},
            )

    async def subscribe(self, subject: str, callback: OnMessage, queue: str = "") -> LastingSubscription:
        subscription = LastingSubscription(self, subject, queue, callback)
        self._subscriptions[subscription.route] = subscription
        await self._keep(subscription.route)
        return subscription

    async def hear(self, subject: str, deliver: Deliver) -> Route:
        """Like :meth:`subscribe`, with no task in between: ``deliver`` is called from the read loop."""
        route = Route(subject, "", deliver)
        await self._keep(route)
        return route

    async def _keep(self, route: Route) -> None:
        self._routes[route] = None
        if (client := self._client) is not None:
            with suppress(nats.errors.ConnectionClosedError):
                await route.attach(client)

    def forget(self, route: Route) -> None:
        self._routes.pop(route, None)
        self._subscriptions.pop(route, None)

    async def confirm(self, route: Route) -> None:
        """Until the server knows of it; NotPermitted where it does not allow it."""
        await self.flush()
        if route.refused is not None:
            raise route.refused

    async def flush(self, timeout_s: float = 2.0) -> None:
        """Until the server has seen all that was sent so far; at once where there is no connection."""
        if (client := self._client) is not None:
            with suppress(nats.errors.Error, OSError):
                await client.flush(timeout_s)

    async def _keep_up(self) -> None:
        while True:
            assert self._client is not None
            await self._client.over()
            await self._lose()
            await self._reconnect()
            logger.info("%s: connected again to %s", self.name, self.servers[-1])

    async def _lose(self) -> None:
        client, self._client = self._client, None
        assert client is not None
        logger.warning("%s: connection lost (%s); connecting again", self.name, client.last_error)
        for lost in self._on_lost:
            lost()
        await client.abandon()

    async def _reconnect(self) -> None:
        wait = WAIT_S[0]
        while not await self._connect_again():
            await asyncio.sleep(random.uniform(0.5, 1.0) * wait)
            wait = min(2 * wait, WAIT_S[1])
        for back in self._on_return:
            await back()

    async def _connect_again(self) -> bool:
        """Unlike at first, an answer that cannot work (a server being replaced, say) is waited out."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._connect()
        except TimeoutError:
            return False
        except Exception as error:  # whatever it is, the only way on is another attempt
            logger.warning("%s: connecting again: %s", self.name, error)
            return False

    async def _connect(self) -> bool:
        """One attempt at the first server of the list; the next attempt is at the next."""
        self.servers.append(self.servers.pop(0))
        server = self.servers[-1]
        client = OneConnection(self._refused)
        self._vacant.discard(server)
        try:
            await client.connect(
                [server],
                name=self.name,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                ping_interval=PING_S,
                max_outstanding_pings=PINGS,
                error_cb=self._on_error,
                skip_subject_validation=True,
                **{key: value for key, value in self._auth.items() if value is not None},
            )
            self._check_server(client)
            await self._hand_on(client)
        except BaseException as error:
            problem = error
        else:
            self._client = client
            return True
        await client.abandon()
        if not isinstance(problem, nats.errors.Error | OSError | TimeoutError):
            raise problem
        self._cannot(server, problem)
        return False

    async def _hand_on(self, client: OneConnection) -> None:
        """What the new connection takes over: all subscriptions, then what waited to be sent."""
        self.max_payload = client.max_payload
        while unattached := [route for route in self._routes if route.client is not client]:
            for route in unattached:
                await route.attach(client)
        while self._unsent:
            subject, data, reply, headers = self._unsent[0]
            size = len(data) + len(headers)
            if size <= self.max_payload:
                if client.put(subject, data, reply, headers):
                    await client.drained()
            else:
                logger.error("%s: the new server does not carry %d bytes for %s", self.name, size, subject)
            self._unsent.popleft()
            self._unsent_bytes -= size

    def _cannot(self, server: str, error: Exception) -> None:
        if any(refusal in str(error).lower() for refusal in _REFUSALS):
            raise SetupError(f"the NATS server at {server} refuses these credentials: {error}") from error
        if not isinstance(error, nats.errors.NoServersError):
            self._note(error)

    def _note(self, error: Exception) -> None:
        self._problem = str(error) or type(error).__name__
        if _nothing_there(error):
            self._vacant.add(self.servers[-1])

    def _check_server(self, client: OneConnection) -> None:
        version = client.connected_server_version
        if (int(version.major), int(version.minor)) < OLDEST_SERVER:
            oldest = ".".join(map(str, OLDEST_SERVER))
            raise SetupError(f"nats-server {version!r} is too old: dspex needs {oldest} or later")

    def _refused(self, what: str, subject: str) -> None:
        verb = "subscribe to" if what == "subscription" else "publish to"
        error = NotPermitted(f"the server does not let this user {verb} {subject}", details={"subject": subject})
        logger.error("%s: %s", self.name, error)
        if what == "publish":
            for refused in self._on_refused:
                refused(subject, error)
        for route in self._routes:
            if what == "subscription" and route.subject.lower() == subject:
                route.refused = error

    async def _on_error(self, error: Exception) -> None:
        if self._client is None:
            self._note(error)
        else:
            logger.info("%s: %s", self.name, error)


def _nothing_there(error: Exception) -> bool:
    """Its port is closed, or its name means nothing; asyncio tells of a name with several addresses in words only."""
    several = isinstance(error, OSError) and error.errno is None and f"[Errno {errno.ECONNREFUSED}]" in str(error)
    return several or isinstance(error, ConnectionRefusedError | socket.gaierror)
