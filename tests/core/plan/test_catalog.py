"""What live workers offer."""

from __future__ import annotations

from dspex_bus.wire import HandlerInfo, WorkerPresence
from dspex_router.plan import Catalog

OLD, NEW = HandlerInfo(name="h", required=("a",)), HandlerInfo(name="h", required=("b",))


def worker(name: str, *handlers: HandlerInfo, state: str = "ready", started_ms: int = 1) -> WorkerPresence:
    return WorkerPresence(worker=name, pool="p", state=state, started_ms=started_ms, handlers=handlers)  # type: ignore[arg-type]


def test_workers_of_a_pool_add_up() -> None:
    other = HandlerInfo(name="other")
    found = Catalog.of([worker("1", OLD), worker("2", other)])
    assert found.pools == {"p": {"h": OLD, "other": other}}


def test_only_ready_workers_count() -> None:
    assert Catalog.of([worker("1", OLD, state="draining"), worker("2", OLD, state="leaving")]).pools == {}


def test_of_two_descriptions_the_newer_worker_s_counts() -> None:
    first, second = worker("1", NEW, started_ms=2), worker("2", OLD, started_ms=1)
    assert Catalog.of([first, second]).pools["p"]["h"] == Catalog.of([second, first]).pools["p"]["h"] == NEW
