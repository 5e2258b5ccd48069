"""Random pipelines under random faults, and a look at the whole history.

    python -m tests.chaos.fuzz --seed 7 --sessions 1000 --fault-every 1.0

The seed decides the pipelines, what clients do to each run and the faults in their order; how they fall together is
the machine's. Exits with 1 and says what is wrong where something is.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

import dspex
from dspex_bus import EmbeddedServer
from dspex_bus.streams import LIVE

from .clients import Client
from .handlers import executions
from .history import Observed, Violation, check
from .journal import read_journal
from .parts import Part, router, worker
from .plans import CHILDREN, INPUT, SIGNAL, Plans

ACK_WAIT_S = 1.0
_AT_ONCE = 48
_QUIET_S = 90.0


class Fuzz:
    """One run. ``what`` says, when it is over, what happened."""

    def __init__(self, seed: int, sessions: int, fault_every_s: float, folder: Path) -> None:
        self.seed = seed
        self.observed = Observed()
        self.faults: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self._sessions = sessions
        self._fault_every_s = fault_every_s
        self._folder = folder
        self._server = EmbeddedServer(folder / "data")
        self._routers: list[Part] = []
        self._workers: list[Part] = []

    async def run(self) -> list[Violation]:
        async with self._server as server:
            self._routers = [router(server.url, self._folder, name=f"router-{number}") for number in range(2)]
            await self._routers[0].started()
            self._workers = [
                worker(server.url, self._folder, name=f"worker-{number}", ack_wait_s=ACK_WAIT_S) for number in range(2)
            ]
            try:
                for part in (self._routers[1], *self._workers):
                    await part.started()
                async with dspex.connect(server.url, name="fuzz") as connected:
                    return await self._checked(connected)
            finally:
                for part in (*self._routers, *self._workers):
                    part.kill()

    async def _checked(self, connected: dspex.Client) -> list[Violation]:
        client = Client(connected, self.observed)
        plans = Plans(random.Random(f"{self.seed} children"), deadly=False)
        for name in CHILDREN:
            await client.put(plans.child(name))
        async with anyio.create_task_group() as around:
            around.start_soon(self._keep)
            async with anyio.create_task_group() as meanwhile:
                meanwhile.start_soon(self._harm)
                await self._all_sessions(client)
                meanwhile.cancel_scope.cancel()
            self._mend()
            await self._quiet(connected)
            around.cancel_scope.cancel()
        self.observed.executions = executions(self._folder / "executions")
        return check(await read_journal(connected.bus), self.observed)

    # --- sessions ---

    async def _all_sessions(self, client: Client) -> None:
        limiter = anyio.CapacityLimiter(_AT_ONCE)

        async def one(number: int) -> None:
            async with limiter:
                await self._session(client, number)

        async with anyio.create_task_group() as group:
            for number in range(self._sessions):
                group.start_soon(one, number)

    async def _session(self, client: Client, number: int) -> None:
        chance = random.Random(f"{self.seed} session {number}")
        plan = Plans(chance).pipeline()
        input = {**INPUT, "flag": chance.random() < 0.5}
        timeout_s = 2.0 if chance.random() < 0.05 else 120.0
        session = await client.submit(plan, input, id=f"s{number}", timeout_s=timeout_s)
        async with anyio.create_task_group() as group:
            for told in self._told(client, session, chance):
                group.start_soon(told)
            try:
                self.ends[(await client.result(session)).status] += 1
            except TimeoutError:
                self.ends["lost"] += 1  # the history will tell more
            group.cancel_scope.cancel()

    def _told(
        self, client: Client, session: dspex.Session, chance: random.Random
    ) -> list[Callable[[], Awaitable[None]]]:
        """What a client does to the session while it runs."""
        told: list[Callable[[], Awaitable[None]]] = []
        delays = [chance.uniform(0, 1.5) for _ in range(4)]

        async def signals() -> None:
            for id in range(4):
                await anyio.sleep(delays[id] / 2)
                await client.signal(session, SIGNAL, str(id), {"said": id})

        async def pauses() -> None:
            await anyio.sleep(delays[1])
            await client.pause(session)
            await anyio.sleep(delays[2] / 2)
            await client.resume(session)

        async def cancels() -> None:
            await anyio.sleep(delays[3])
            with anyio.CancelScope(shield=True):
                await client.cancel(session)

        for does, likely in ((signals, 0.7), (pauses, 0.15), (cancels, 0.2)):
            if chance.random() < likely:
                told.append(does)
        return told

    # --- faults ---

    async def _harm(self) -> None:
        chance = random.Random(f"{self.seed} faults")
        harms = [self._kill_router, self._kill_worker, self._hang_worker, self._hang_router, self._stop_router]
        while True:
            await anyio.sleep(self._fault_every_s * chance.uniform(0.7, 1.3))
            if chance.random() < 0.15:
                await self._restart_server(chance)
            else:
                await chance.choice(harms)(chance)

    async def _kill_router(self, chance: random.Random) -> None:
        self._send("router killed", chance.choice(self._routers), signal.SIGKILL)

    async def _kill_worker(self, chance: random.Random) -> None:
        self._send("worker killed", chance.choice(self._workers), signal.SIGKILL)

    async def _stop_router(self, chance: random.Random) -> None:
        self._send("router stopped in order", chance.choice(self._routers), signal.SIGTERM)

    async def _hang_worker(self, chance: random.Random) -> None:
        """Past the ack wait: its tasks are somebody else's when it comes back."""
        await self._hang("worker hung", chance.choice(self._workers), 1.7 * ACK_WAIT_S)

    async def _hang_router(self, chance: random.Random) -> None:
        await self._hang("router hung", chance.choice(self._routers), chance.uniform(0.5, 3.5))

    async def _hang(self, what: str, part: Part, for_s: float) -> None:
        self._send(what, part, signal.SIGSTOP)
        try:
            await anyio.sleep(for_s)
        finally:
            part.send(signal.SIGCONT)

    async def _restart_server(self, chance: random.Random) -> None:
        killed = chance.random() < 0.5
        self.faults["server killed" if killed else "server stopped"] += 1
        with anyio.CancelScope(shield=True):
            if killed:
                await self._server.kill()
            await anyio.sleep(chance.uniform(0, 0.5))
            await self._server.restart()

    def _send(self, what: str, part: Part, how: signal.Signals) -> None:
        self.faults[what] += 1
        part.send(how)

    def _mend(self) -> None:
        for part in (*self._routers, *self._workers):
            part.send(signal.SIGCONT)

    async def _keep(self) -> None:
        """What ended is started again."""
        while True:
            await anyio.sleep(0.1)
            for part in (*self._routers, *self._workers):
                if part.code is not None:
                    part.kill()
                    part.start()

    async def _quiet(self, connected: dspex.Client) -> None:
        """Until no session is live any more."""
        live = connected.bus.key_value(LIVE)
        with anyio.move_on_after(_QUIET_S):
            while await live.keys():
                await anyio.sleep(0.1)

    def what(self) -> str:
        ends = ", ".join(f"{count} {status}" for status, count in self.ends.most_common())
        faults = ", ".join(f"{count} x {fault}" for fault, count in self.faults.most_common())
        executed = len(self.observed.executions)
        return f"seed {self.seed}: {ends}; {executed} executions; {len(self.observed.cancelled)} cancelled; {faults}"


async def fuzz(seed: int, sessions: int, fault_every_s: float) -> list[Violation]:
    """Run, say what happened, and what was wrong. Where something was, the folder with the logs is kept."""
    folder = Path(tempfile.mkdtemp(prefix="dspex-fuzz-"))
    print(f"seed {seed}: {sessions} sessions, a fault every {fault_every_s:g} s", flush=True)
    run = Fuzz(seed, sessions, fault_every_s, folder)
    wrong = await run.run()
    print(run.what())
    for violation in wrong:
        print(violation)
    if wrong:
        print(f"logs: {folder}")
    else:
        shutil.rmtree(folder)
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fuzz")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--fault-every", type=float, default=1.0, metavar="SECONDS")
    told = parser.parse_args()
    sys.exit(1 if anyio.run(fuzz, told.seed, told.sessions, told.fault_every) else 0)


if __name__ == "__main__":
    main()
