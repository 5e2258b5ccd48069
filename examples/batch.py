# Scenario: a batch of 1,000 runs with a progress bar, cancelled half-way and resumed.
# On a running system (dspex up): python examples/batch.py [RUNS] [NAME]; Ctrl-C cancels, the same command goes on.
import asyncio
import contextlib
import signal
import sys

from rich.console import Console
from rich.progress import track

import dspex

GREET = dspex.pipeline([dspex.native("template", template="Hello, customer {{ number }}!")], name="greet")
AT_ONCE = 64


class Batch:
    """Each run has an id made of the batch's name and its number: to submit it again is to come back to it."""

    def __init__(self, client: dspex.Client, name: str, runs: int) -> None:
        self.client = client
        self.name = name
        self.runs = runs
        self.finished = 0

    async def go(self) -> None:
        """Every run to its end. Those of an earlier call are found done, those cancelled run again."""
        places = asyncio.Semaphore(AT_ONCE)
        tasks = [asyncio.create_task(self._one(number, places)) for number in range(self.runs)]
        try:
            console = Console(stderr=True)
            for done in track(asyncio.as_completed(tasks), "runs", total=self.runs, console=console):
                await done
                self.finished += 1
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, number: int, places: asyncio.Semaphore) -> None:
        async with places:
            session = await self.client.submit(GREET, {"number": number}, session=f"{self.name}-{number}")
            try:
                result = await session.result()
            except asyncio.CancelledError:
                with contextlib.suppress(dspex.DspexError):  # it may have ended meanwhile
                    await session.cancel("the batch was cancelled")
                raise
            if result.status != "succeeded":
                again = await session.retry(id=f"{self.name}-{number}-again")
                await again.result()


async def main(runs: int, name: str) -> None:
    async with dspex.connect() as dx:
        batch = Batch(dx, name, runs)
        going = asyncio.create_task(batch.go())
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, going.cancel)
        try:
            await going
        except asyncio.CancelledError:
            print(f"cancelled after {batch.finished} of {runs} runs; the same command goes on")
        else:
            print(f"{batch.finished} of {runs} runs are done")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, sys.argv[2] if len(sys.argv) > 2 else "batch"))
