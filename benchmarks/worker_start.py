"""How soon a worker serves, a native one and one of DSPy: from the start of its process until it says that it is ready.

python benchmarks/worker_start.py [--quick] [--json FILE]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import anyio
import msgspec
from timing import arguments, report, run_loop

from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.streams import buckets, streams
from dspex_services.supervisor.process import WorkerProcess
from dspex_services.worker.spec import DSPY, NATIVE, PoolSpec

LONGEST_S = 30.0
NOTES = {
    "native_worker_start_s": "target 0.4 or less; the median",
    "native_worker_start_s_best": "",
    "native_worker_start_cpu_s": "its own CPU, the median: what other work on the machine does not change",
    "native_worker_imports_dspy": "1 if it does",
    "dspy_worker_start_s": "target 2 or less; the median",
    "dspy_worker_start_s_best": "",
    "dspy_worker_start_cpu_s": "",
}
ENVIRONMENT = {"DSPEX_MODEL": "openai/canned"}
SPEC = PoolSpec(pool="native", handlers=(NATIVE,), environment=ENVIRONMENT)
DSPY_SPEC = PoolSpec(pool="dspy", handlers=(DSPY,), environment=ENVIRONMENT)
IMPORTS = """
import sys, msgspec
from dspex_services.worker import __main__
from dspex_services.worker.spec import PoolSpec, load_handlers
load_handlers(msgspec.json.decode(sys.argv[1], type=PoolSpec))
print(int("dspy" in sys.modules or "litellm" in sys.modules))
"""


def measure(quick: bool) -> dict[str, float]:
    line = [sys.executable, "-c", IMPORTS, msgspec.json.encode(SPEC).decode()]
    said = subprocess.run(line, capture_output=True, text=True, check=True)
    taken, used = run_loop(_starts(SPEC, 5 if quick else 20))
    taken_dspy, used_dspy = run_loop(_starts(DSPY_SPEC, 3 if quick else 10))
    return {
        "native_worker_start_s": statistics.median(taken),
        "native_worker_start_s_best": min(taken),
        "native_worker_start_cpu_s": statistics.median(used),
        "native_worker_imports_dspy": float(said.stdout),
        "dspy_worker_start_s": statistics.median(taken_dspy),
        "dspy_worker_start_s_best": min(taken_dspy),
        "dspy_worker_start_cpu_s": statistics.median(used_dspy),
    }


async def _starts(spec: PoolSpec, count: int) -> tuple[list[float], list[float]]:
    taken, used = [], []
    async with EmbeddedServer() as server, NatsBus(server.url, name="bench") as bus:
        await bus.prepare(streams(), buckets())
        for _ in range(count + 1):
            began = time.perf_counter()
            process = WorkerProcess(server.url, spec, "bench")
            with anyio.fail_after(LONGEST_S):
                await anyio.wait_readable(process.ready)
            taken.append(time.perf_counter() - began)
            used.append(_cpu_seconds(process.pid))
            process.kill()
            await process.ended()
            process.reap()
            process.close()
    return taken[1:], used[1:]  # the first reads the disk


def _cpu_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = arguments(__doc__ or "")
    report(measure(options.quick), options.json, NOTES)


if __name__ == "__main__":
    main()
