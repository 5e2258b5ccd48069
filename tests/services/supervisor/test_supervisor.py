"""What a supervisor does when things go wrong at the start, in between, and at its own end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

from dspex_bus import EmbeddedServer, subjects
from dspex_bus.wire import StepSucceeded
from dspex_services.errors import SetupError
from dspex_services.supervisor import PoolSpec, Supervisor
from dspex_services.supervisor.leftovers import marked
from dspex_services.supervisor.process import environment
from dspex_services.worker.spec import load_handlers

from ..rig import Rig
from .supervised import WORK, Holds, descendants, gone, since, spec, supervised

pytestmark = pytest.mark.anyio

ALONE = """
import sys, anyio, msgspec
from dspex_bus.process import loop_options
from dspex_services.supervisor import PoolSpec, Supervisor
from dspex.cli.shell import asynchronous

@asynchronous
async def main():
    specs = [msgspec.json.decode(one, type=PoolSpec) for one in sys.argv[2:]]
    async with anyio.create_task_group() as group:
        await group.start(Supervisor(sys.argv[1], specs).run)
        print("ready", flush=True)
main()
"""


@contextmanager
def supervising(rig: Rig, *specs: PoolSpec) -> Iterator[subprocess.Popen[str]]:
    """A supervisor in a process of its own. Blocks until it is ready: pytest's own timeout bounds that."""
    arguments = [msgspec.json.encode(one).decode() for one in specs]
    process = subprocess.Popen(
        [sys.executable, "-c", ALONE, rig.url, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()


IMPORTS = {
    "syntax": ("def broken(:\n", "SyntaxError"),
    "raises": ("raise RuntimeError('no key\\nno model')\n", "RuntimeError: no key"),
    "leaves": ("import sys\nsys.exit(0)\n", "SystemExit: 0"),
    "interrupts": ("raise KeyboardInterrupt\n", "KeyboardInterrupt"),
    "unresolved": ("import nowhere_to_be_found\n", "No module named 'nowhere_to_be_found'"),
}


@pytest.mark.parametrize("how", IMPORTS)
def test_handlers_that_cannot_be_imported_say_why(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, said = IMPORTS[how]
    (tmp_path / f"cannot_{how}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SetupError, match=f"cannot import the handlers cannot_{how}:handlers: .*{said}") as caught:
        load_handlers(PoolSpec(pool="p", handlers=(f"cannot_{how}:handlers",)))
    assert "\n" not in caught.value.message
    if how == "raises":
        assert f"cannot_{how}.py, line 1" in caught.value.message


async def test_a_pool_that_cannot_be_set_up_ends_the_start(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise RuntimeError('no key')\n")
    cannot = spec(rig, handlers=("broken:handlers",), path=(str(tmp_path),))
    with pytest.raises(ExceptionGroup) as caught:
        async with supervised(rig, cannot):
            pass
    assert caught.group_contains(SetupError, match=rf"{rig.pool} cannot be set up: .*no key \(.*broken.py, line 1\)")


@pytest.mark.slow
async def test_one_pool_that_cannot_go_on_leaves_the_other_alone(rig: Rig, tmp_path: Path) -> None:
    """Its code is changed for the worse while it runs, and then its worker is killed."""
    module = tmp_path / "changing.py"
    module.write_text((WORK / "unruly.py").read_text())
    changing = spec(rig, pool=f"{rig.pool}-changing", handlers=("changing:handlers",), path=(str(tmp_path),))
    async with supervised(rig, spec(rig), changing) as supervisor:
        pid = await _pid_of(rig, changing.pool)
        module.write_text("1 / 0\n")
        os.kill(pid, signal.SIGKILL)
        with anyio.fail_after(20):
            while len(supervisor.serving) > 1:
                await anyio.sleep(0.02)
        assert supervisor.serving == {rig.pool}
        assert isinstance(await rig.run("echo"), StepSucceeded)
        with pytest.raises(ExceptionGroup) as caught:  # a second supervisor has nothing but that pool
            async with supervised(rig, changing):
                pass
        assert caught.group_contains(SetupError, match="ZeroDivisionError")


async def _pid_of(rig: Rig, pool: str) -> int:
    pids: list[int] = []
    came = anyio.Event()

    async def on_presence(message: object) -> None:
        pids.append(msgspec.json.decode(message.data)["pid"])  # type: ignore[attr-defined]
        came.set()

    subscription = await rig.bus.subscribe(subjects.pool_presence(pool), on_presence)
    await rig.bus.publish(subjects.ROLL_CALL)
    with anyio.fail_after(10):
        await came.wait()
    await subscription.close()
    return pids[0]


async def test_nothing_is_left_of_a_killed_supervisor(rig: Rig) -> None:
    with supervising(rig, spec(rig, size=2)) as supervisor:
        started = (await rig.run("spawn")).outputs
        held = marked(f"{supervisor.pid}-")
        assert {started["pid"], *started["children"][:2]} <= set(held)
        assert len(held) == 4  # two workers, and two of the three that bear the mark
        children = descendants(supervisor.pid)
        assert len(children) == 3 + len(started["children"])  # the workers, and who kills what they leave
        supervisor.kill()
        await gone([*children, *held])


def _leaving(rig: Rig) -> int:
    """Workers that have said more than once that they drain, or that they leave: they take nothing more."""
    said = Counter(said.worker for said in rig.presences if said.state == "draining")
    left = {said.worker for said in rig.presences if said.state == "leaving"}
    return len(left | {worker for worker, times in said.items() if times > 1})


@pytest.mark.slow
async def test_told_to_stop_it_finishes_what_is_begun(rig: Rig) -> None:
    with supervising(rig, spec(rig, size=2)) as supervisor:
        async with Holds(rig).watching() as holds:
            task, late = rig.task("hold", {"tell": holds.subject}), rig.task("echo")
            await rig.send(task)
            await holds.until(1)
            supervisor.terminate()
            await rig.until(lambda: _leaving(rig) >= 2)
            await rig.send(late)
            await holds.let_go(0)
            assert isinstance(await rig.outcome(task), StepSucceeded)
            assert await anyio.to_thread.run_sync(supervisor.wait, 10) == 0
            assert await rig.stored(late) is None
            counts = await rig.counts()
            assert (counts["pending"], counts["ack_pending"]) == (1, 0)


@pytest.mark.slow
async def test_workers_that_end_at_once_are_started_less_and_less_often(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "brief.py").write_text(
        "import atexit, os, threading\nfrom unruly import handlers\n"
        f"open({str(tmp_path / 'starts')!r}, 'a').write('x')\nthreading.Timer(0.5, os._exit, (5,)).start()\n"
    )
    brief = spec(rig, handlers=("brief:handlers",), path=(str(tmp_path), str(WORK)))
    async with anyio.create_task_group() as group:
        group.start_soon(Supervisor(rig.url, [brief]).run)
        await anyio.sleep(6)  # how often in so long is what is asked
        group.cancel_scope.cancel()
    starts = len((tmp_path / "starts").read_text())
    assert 3 <= starts <= 6  # at 0, 0.1, 0.3, 0.7, 1.5 and 3.1 s, and half a second each


async def test_it_waits_for_the_server(rig: Rig) -> None:
    async with EmbeddedServer() as server:
        port = int(server.url.rpartition(":")[2])
    ready = anyio.Event()

    async def start() -> None:
        await group.start(Supervisor(f"nats://127.0.0.1:{port}", []).run)
        ready.set()

    async with anyio.create_task_group() as group:
        group.start_soon(start)
        await anyio.sleep(0.2)  # it must not be ready for as long as there is no server
        assert not ready.is_set()
        async with EmbeddedServer(port=port):
            with anyio.fail_after(10):
                await ready.wait()
        group.cancel_scope.cancel()


def test_a_workers_libraries_start_no_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    assert environment(PoolSpec(pool="p"), "m")["OPENBLAS_NUM_THREADS"] == "1"
    chosen = PoolSpec(pool="p", environment={"OPENBLAS_NUM_THREADS": "4"})
    assert environment(chosen, "m")["OPENBLAS_NUM_THREADS"] == "4"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert environment(PoolSpec(pool="p"), "m")["OMP_NUM_THREADS"] == "2"


@pytest.mark.slow
async def test_it_is_so_in_the_workers_process(rig: Rig) -> None:
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TOKENIZERS_PARALLELISM"]
    began = time.monotonic()
    async with supervised(rig, environment={"OMP_NUM_THREADS": "3"}):
        found = (await rig.run("environment", {"names": names})).outputs
    assert found == {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    assert since(began) < 15


async def _restarted(supervisor: Supervisor) -> None:
    with anyio.fail_after(10):
        while supervisor.restarts < 1:
            await anyio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("lacking", [["pidfd_open"], ["pidfd_open", "waitid"]])
async def test_where_the_system_has_no_descriptors_of_processes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, lacking: list[str]
) -> None:
    for name in lacking:
        monkeypatch.delattr(os, name)
    async with supervised(rig) as supervisor:
        os.kill((await rig.run("echo")).outputs["pid"], signal.SIGKILL)
        await _restarted(supervisor)
        assert isinstance(await rig.run("echo"), StepSucceeded)


@pytest.mark.slow
async def test_a_worker_that_says_nothing_any_more_is_killed_and_replaced(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    async with supervised(rig, silent_s=2.5, ack_wait_s=1.0) as supervisor:
        pid = (await rig.run("echo")).outputs["pid"]
        os.kill(pid, signal.SIGSTOP)
        await _restarted(supervisor)
        assert (await rig.run("echo")).outputs["pid"] != pid
    assert "has said nothing for 3 s; it is killed" in caplog.text
    assert "was ended by SIGKILL" in caplog.text


@pytest.mark.slow
async def test_a_supervisor_that_was_suspended_or_cut_off_kills_nobody(rig: Rig) -> None:
    with supervising(rig, spec(rig, silent_s=2.5, ack_wait_s=1.0)) as supervisor:
        pid = (await rig.run("echo")).outputs["pid"]
        os.kill(supervisor.pid, signal.SIGSTOP)
        await anyio.sleep(4)  # longer than a worker may be silent
        os.kill(supervisor.pid, signal.SIGCONT)
        await anyio.sleep(1.5)  # it looks at its workers again, and must kill none
        assert (await rig.run("echo")).outputs["pid"] == pid
