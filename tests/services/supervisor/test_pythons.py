"""Pools whose workers run in a Python of their own."""

from __future__ import annotations

import os
import signal
import site
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from dspex_bus.wire import StepSucceeded
from dspex_services.errors import SetupError

from ..rig import Rig
from .supervised import spec, supervised

pytestmark = pytest.mark.anyio

HANDLERS = """
import sys
import only_there
from dspex_services.handlers import Handlers

handlers = Handlers()

@handlers.handler("where")
def where(request: dict) -> dict:
    return {"prefix": sys.prefix, "version": only_there.VERSION}
"""


def environment(folder: Path, *, ours: bool) -> Path:
    """A virtual environment with a package that this one lacks; with ``ours``, with all that this one has besides."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "only_there.py").write_text("VERSION = 7\n")
    (packages / "handling.py").write_text(HANDLERS)
    if ours:
        added = "; ".join(f"site.addsitedir({path!r})" for path in site.getsitepackages())
        (packages / "ours.pth").write_text(f"import site; {added}\n")
    return folder


async def test_a_pool_with_packages_of_its_own_beside_one_without(rig: Rig, tmp_path: Path) -> None:
    there = environment(tmp_path / "there", ours=True)
    own = spec(rig, handlers=("handling:handlers",), path=(), python=str(there))
    usual = spec(rig, pool=f"{rig.pool}-usual")
    async with supervised(rig, own, usual):
        found = await rig.run("where")
        assert isinstance(found, StepSucceeded)
        assert found.outputs == {"prefix": str(there), "version": 7}
        rig.pool = usual.pool
        assert isinstance(await rig.run("echo"), StepSucceeded)
        rig.pool = own.pool
    by_name = str(there / "bin" / "python")
    async with supervised(rig, spec(rig, handlers=("handling:handlers",), path=(), python=by_name)):
        assert (await rig.run("where")).outputs["prefix"] == str(there)


@pytest.mark.slow
async def test_a_python_without_us_or_without_itself_ends_the_start(rig: Rig, tmp_path: Path) -> None:
    bare = environment(tmp_path / "bare", ours=False)
    for python, reason in ((bare, "cannot run workers: No module named"), (tmp_path / "nowhere", "could be started")):
        with pytest.raises(ExceptionGroup) as caught:
            async with supervised(rig, spec(rig, python=str(python))):
                pass
        assert caught.group_contains(SetupError, match=reason), python


@pytest.mark.slow
async def test_an_environment_that_goes_away_leaves_those_that_run(
    rig: Rig, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    there = environment(tmp_path / "there", ours=True)
    async with supervised(rig, python=str(there), size=2) as supervisor:
        pids = {said.pid for said in rig.presences}
        os.rename(there / "bin", there / "nib")
        os.kill(pids.pop(), signal.SIGKILL)
        with anyio.fail_after(20):
            while "no process could be started" not in capfd.readouterr().err:
                await anyio.sleep(0.02)
        assert {supervisor.serving == {rig.pool}, supervisor.pools[0].size} == {True}
        assert isinstance(await rig.run("echo"), StepSucceeded)
