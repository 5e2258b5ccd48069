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
from pathlib import Path

import anyio

import dspex
from dspex_bus import EmbeddedServer

from .history import Violation
from .parts import Part, router, with_a_clock, worker
from .proxy import Proxy
from .runs import Runs
from .waits import Waits

ACK_WAIT_S = 1.0
WRONG_S = 7200.0
PARK_AFTER_S = 0.2
"""Whatever waits is parked as soon as it does, and again."""


class Fuzz:
    """One run. ``what`` says, when it is over, what happened."""

    def __init__(
        self,
        seed: int,
        sessions: int,
        fault_every_s: float,
        folder: Path,
        park_after_s: float = PARK_AFTER_S,
        kind: type[Runs] = Runs,
    ) -> None:
        self.seed = seed
        self.faults: Counter[str] = Counter()
        self._sessions = sessions
        self._fault_every_s = fault_every_s
        self._folder = folder
        self._kind = kind
        self._arguments = ("--park-after", str(park_after_s))
        self._server = EmbeddedServer(folder / "data")
        self._routers: list[Part] = []
        self._workers: list[Part] = []
        self._way: Proxy
        self.runs: Runs

    async def run(self) -> list[Violation]:
        async with self._server as server, Proxy(server.port) as self._way:
            urls = (server.url, self._way.url)
            self._routers = [
                router(url, self._folder, name=name, arguments=self._arguments, **with_a_clock(self._clock(name)))
                for name, url in zip(("router-0", "router-1"), urls, strict=True)
            ]
            await self._routers[0].started()
            self._workers = [
                worker(server.url, self._folder, name=name, ack_wait_s=ACK_WAIT_S, **with_a_clock(self._clock(name)))
                for name in ("worker-0", "worker-1")
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
        self.runs = self._kind(connected, self.seed, self._folder)
        async with anyio.create_task_group() as around:
            around.start_soon(self._keep)
            async with anyio.create_task_group() as meanwhile:
                meanwhile.start_soon(self._harm)
                await self.runs.go(self._sessions)
                meanwhile.cancel_scope.cancel()
            self._mend()
            wrong = await self.runs.wrong()
            around.cancel_scope.cancel()
        return wrong

    # --- faults ---

    async def _harm(self) -> None:
        chance = random.Random(f"{self.seed} faults")
        harms = [
            self._kill_router,
            self._kill_worker,
            self._hang_worker,
            self._hang_router,
            self._cut_router_off,
            self._stop_router,
            self._set_clock,
        ]
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

    async def _cut_router_off(self, chance: random.Random) -> None:
        """It hears nobody and nobody hears it; what it said meanwhile comes when it is back."""
        self.faults["router cut off"] += 1
        self._way.cut()
        try:
            await anyio.sleep(chance.uniform(0.5, 3.5))
        finally:
            self._way.mend()

    async def _set_clock(self, chance: random.Random) -> None:
        """Of one host, and it stays so; what starts there again finds it wrong."""
        part = chance.choice((*self._routers, *self._workers))
        self.faults["clock set"] += 1
        told = self._clock(part.name)
        new = told.with_suffix(".new")
        new.write_text(str(chance.uniform(-WRONG_S, WRONG_S)))
        new.replace(told)

    def _clock(self, name: str) -> Path:
        return self._folder / f"{name}.clock"

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

    def what(self) -> str:
        ends = ", ".join(f"{count} {status}" for status, count in self.runs.ends.most_common())
        faults = ", ".join(f"{count} x {fault}" for fault, count in self.faults.most_common())
        executed = len(self.runs.observed.executions)
        return (
            f"seed {self.seed}: {ends}; {executed} executions; {len(self.runs.observed.cancelled)} cancelled; {faults}"
        )


async def fuzz(
    seed: int, sessions: int, fault_every_s: float, park_after_s: float, kind: type[Runs]
) -> list[Violation]:
    """Run, say what happened, and what was wrong. Where something was, the folder with the logs is kept."""
    folder = Path(tempfile.mkdtemp(prefix="dspex-fuzz-"))
    print(f"seed {seed}: {sessions} sessions, a fault every {fault_every_s:g} s", flush=True)
    run = Fuzz(seed, sessions, fault_every_s, folder, park_after_s, kind)
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
    parser.add_argument("--park-after", type=float, default=PARK_AFTER_S, metavar="SECONDS")
    parser.add_argument("--waiting", action="store_true", help="sessions that wait for most of their lives")
    told = parser.parse_args()
    kind = Waits if told.waiting else Runs
    sys.exit(1 if anyio.run(fuzz, told.seed, told.sessions, told.fault_every, told.park_after, kind) else 0)


if __name__ == "__main__":
    main()
