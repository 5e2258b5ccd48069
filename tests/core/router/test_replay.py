"""Whatever happens, in whatever order: one end, nothing counted twice, and a replay that decides the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_bus.wire import Node, RetryPolicy, Rounds, SessionAccepted, SessionEnded
from dspex_router.core import Command, Recorded, SetTimer, decide, resume
from dspex_router.core.state import ParallelRun, Session, StepRun

from .building import accepted, branch, copied, loop, mapped, parallel, pipeline, sequence, sleep, snapshot, task, wait
from .world import World

RETRIES = st.sampled_from(
    [
        RetryPolicy(attempts=1),
        RetryPolicy(attempts=3, initial_s=0),
        RetryPolicy(attempts=3, initial_s=1, jitter=0.5),
        RetryPolicy(attempts=2, initial_s=4, codes=("broken",)),
    ]
)
CONDITIONS = st.sampled_from(["yes", "!yes", "size(items) > 1", "absent"])
JOINS = st.fixed_dictionaries(
    {"timeout_ms": st.sampled_from([0, 0, 2_000])},
    optional={"kind": st.sampled_from(["any", "best_effort"]), "on_error": st.just("collect")},
)
AFTER_ONE = Rounds(done=1, fields={"absent": True})
STEPS = ("task", "task", "task", "sleep", "wait", "pipeline")
GROUPS = ("sequence", "parallel", "map", "branch", "loop")


@st.composite
def nodes(draw: st.DrawFn, id: str, depth: int) -> Node:
    kind = draw(st.sampled_from(STEPS + GROUPS * 2 if depth else STEPS))

    def below(place: object) -> Node:
        return draw(nodes(f"{id}-{place}", depth - 1))

    match kind:
        case "task":
            needs = draw(st.sampled_from([{}, {}, {}, {"reads": {"q": "absent"}}]))
            return task(id, retry=draw(RETRIES), fuse=draw(st.sampled_from([0, 1, 2])), **needs)
        case "sleep":
            return sleep(id, draw(st.sampled_from([1, 3_000])))
        case "wait":
            waits: Any = draw(st.sampled_from([{}, {"timeout_ms": 2_000}, {"timeout_ms": 2_000, "default": {"d": 0}}]))
            return wait(id, **waits)
        case "pipeline":
            return pipeline(id, retry=draw(RETRIES))
        case "sequence":
            return sequence(id, *(below(place) for place in range(draw(st.integers(1, 3)))))
        case "parallel":
            branches = [below(place) for place in range(draw(st.integers(1, 3)))]
            return parallel(id, *branches, save_as=draw(st.sampled_from([None, f"all_{id}"])), **_join(draw, branches))
        case "map":
            over = draw(st.sampled_from(["items", "items", "items", "absent", "yes"]))
            save_as = draw(st.sampled_from([None, f"all_{id}"]))
            limit = draw(st.integers(1, 3))
            return mapped(id, below("n-0"), over=over, limit=limit, save_as=save_as, **_join(draw, [None, None]))
        case "branch":
            cases = [(draw(CONDITIONS), below(f"{place}-0")) for place in range(draw(st.integers(1, 2)))]
            return branch(id, *cases, otherwise=draw(st.sampled_from([None, below(f"{len(cases)}-0")])))
        case _:
            return loop(id, below("n-0"), until=draw(CONDITIONS), at_most=draw(st.integers(1, 3)))


def _join(draw: st.DrawFn, branches: list[Any]) -> dict[str, Any]:
    join = draw(JOINS)
    if draw(st.integers(0, 3)) == 0:
        join |= {"kind": "quorum", "quorum": draw(st.integers(1, len(branches)))}
    if join.get("kind", "all") != "all":
        join.pop("on_error", None)
    return join


@st.composite
def runs(draw: st.DrawFn) -> SessionAccepted:
    return accepted(
        *(draw(nodes(str(place), 3)) for place in range(draw(st.integers(1, 3)))),
        input={"yes": True, "items": draw(st.lists(st.integers(0, 9), max_size=3))},
        deadline_ms=draw(st.sampled_from([1_001, 4_000, 20_000, 10_000_000, 10_000_000])),
        kept=draw(st.sampled_from([{}, {}, {"0": {"kept": 0}}, {"0-0-0": {"kept": 0}}])),
        rounds=draw(st.sampled_from([{}, {"0": AFTER_ONE, "1": AFTER_ONE, "0-0": AFTER_ONE}])),
    )


def chooser(data: st.DataObject) -> Callable[[int], int]:
    return lambda count: data.draw(st.integers(0, count - 1)) if count > 1 else 0


@settings(max_examples=250)
@given(run=runs(), orderly=st.booleans(), data=st.data())
def test_whatever_happens(run: SessionAccepted, orderly: bool, data: st.DataObject) -> None:
    world = World(accepted=run, choose=chooser(data), orderly=orderly)
    for _ in range(data.draw(st.integers(0, 60))):
        moves = world.moves()
        moves[world.choose(len(moves))]()
    if orderly:
        assert_a_restart_would_change_nothing(world)
    world.settle()
    assert_it_ended_once(world)
    assert_no_outcome_counted_twice(world.journal)
    assert_results_are_in_order(world)
    assert_a_replay_decides_the_same(world.journal)
    assert_any_owner_ends_there(world.journal, cut=data.draw(st.integers(1, len(world.journal))))


def assert_a_restart_would_change_nothing(world: World) -> None:
    """The journal and the clock are all there is: they give the state that the owner has, its timers included. Of an
    end only the journal tells: how the owner came to propose it is forgotten."""
    world.catch_up()
    assert world.state is not None
    if world.state.ended is not None:
        return
    mine, other = timed(copied(world.state), world.now_ms), timed(replayed(world.journal)[0], world.now_ms)
    for state in (mine, other):
        for run in state.runs.values():
            # Whether a timer or an outcome came first shows in a run that has ended, and matters to nobody any more.
            run.abandoned = run.abandoned if run.open else ""
    without = ("ignored", "now_ms", "started_ms", "ended_ms")
    assert snapshot(mine, without=without) == snapshot(other, without=without)


def timed(state: Session, now_ms: int) -> Session:
    """The session once all its timers that are due have fired."""
    if state.phase == "running":
        for command in resume(state):
            if isinstance(command, SetTimer) and command.at_ms <= now_ms:
                state, _ = decide(state, command.event)
    return state


def assert_it_ended_once(world: World) -> None:
    ends = [recorded.event for recorded in world.journal if isinstance(recorded.event, SessionEnded)]
    assert world.state is not None
    assert ends == [world.state.ended]


def assert_no_outcome_counted_twice(journal: list[Recorded]) -> None:
    """A node's attempts count one after the other, each once, and none after a success."""
    state: Session | None = None
    counted: dict[str, list[tuple[int, bool]]] = {}
    for recorded in journal:
        run = None if state is None else state.runs.get(recorded.node)
        state, _ = decide(state, recorded)
        if isinstance(run, StepRun) and run.outcome is recorded.event:
            counted.setdefault(recorded.node, []).append((recorded.attempt, run.status == "succeeded"))
    for attempts in counted.values():
        assert [attempt for attempt, _ in attempts] == list(range(1, len(attempts) + 1))
        assert not any(succeeded for _, succeeded in attempts[:-1])


def assert_results_are_in_order(world: World) -> None:
    assert world.state is not None
    found = world.state.runs
    for run in found.values():
        if (
            isinstance(run, ParallelRun)
            and run.status == "succeeded"
            and run.node.save_as
            and run.id not in world.accepted.kept
        ):
            results = [(said["branch"], said["status"]) for said in run.written[run.node.save_as]]
            assert results == [(child.name, found[child.id].status) for child in run.node.children]


def replayed(journal: list[Recorded]) -> tuple[Session, list[list[Command]]]:
    state: Session | None = None
    commands = []
    for recorded in journal:
        state, decided = decide(state, recorded)
        commands.append(decided)
    assert state is not None
    return state, commands


def assert_a_replay_decides_the_same(journal: list[Recorded]) -> None:
    one, commands = replayed(journal)
    other, again = replayed(journal)
    assert commands == again
    assert snapshot(one) == snapshot(other)
    assert resume(one) == resume(other)


def assert_any_owner_ends_there(journal: list[Recorded], cut: int) -> None:
    """One that folded a part, asked what is open, and is then told the rest."""
    state, _ = replayed(journal[:cut])
    resume(state)
    for recorded in journal[cut:]:
        state, _ = decide(state, recorded)
    assert snapshot(state) == snapshot(replayed(journal)[0])
