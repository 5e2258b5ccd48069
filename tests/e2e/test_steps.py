"""Every kind of step, as a client sees it, over real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import dspex
from dspex_bus.wire import SessionView, StepSucceeded

from .conftest import RunningSystem

pytestmark = pytest.mark.anyio

FAIL = dspex.native("rough.refuse", retry=dspex.RetryPolicy(attempts=1))


def say(text: str, **more: Any) -> dspex.StepDefinition:
    return dspex.native("template", template=text, **more)


def gated(path: Path, **more: Any) -> dspex.StepDefinition:
    """A step that ends when the test makes the file."""
    return dspex.native("rough.wait_for_file", path=str(path), **more)


async def until(client: dspex.Client, session: dspex.Session, holds: Any) -> SessionView:
    with anyio.fail_after(20):
        while True:
            view = await session.view()
            if holds(view):
                return view
            await anyio.sleep(0.01)


def status_of(view: SessionView, node: str) -> str:
    return next(step.status for step in view.steps if step.node == node)


async def run(client: dspex.Client, *steps: dspex.StepDefinition, **input: Any) -> dict[str, Any]:
    result = await client.run(dspex.pipeline(list(steps)), input, timeout_s=30)
    assert result.output is not None
    return result.output


async def test_any_takes_the_first_success_and_abandons_the_others(client: dspex.Client, tmp_path: Path) -> None:
    never = gated(tmp_path / "never", text="never")
    join = dspex.parallel([never, FAIL, say("first", outputs={"text": "found"})], join="any")
    assert await run(client, join) == {"found": "first"}


async def test_any_of_failures_fails(client: dspex.Client) -> None:
    with pytest.raises(dspex.RunFailed) as failure:
        await run(client, dspex.parallel([FAIL, FAIL], join="any"))
    assert failure.value.code == "join_failed"
    assert "come back tomorrow" in failure.value.message


async def test_quorum(client: dspex.Client, tmp_path: Path) -> None:
    never = gated(tmp_path / "never", text="never")
    branches = [say("a"), never, FAIL, say("b")]
    found = (await run(client, dspex.parallel(branches, join="quorum", quorum=2, save_as="all")))["all"]
    assert [found[place]["status"] for place in (0, 1, 3)] == ["succeeded", "cancelled", "succeeded"]
    assert found[2]["status"] in ("failed", "cancelled")  # as it comes before or after the second success
    assert [branch["outputs"]["text"] for branch in found if "outputs" in branch] == ["a", "b"]


async def test_best_effort_takes_what_is_there_at_its_deadline(client: dspex.Client, tmp_path: Path) -> None:
    never = gated(tmp_path / "never", text="never")
    join = dspex.parallel([never, say("there")], join="best_effort", timeout_s=0.5, save_as="all")
    found = (await run(client, join))["all"]
    assert [branch["status"] for branch in found] == ["cancelled", "succeeded"]
    assert "join_timed_out" in found[0]["error"]["message"]


async def test_siblings_do_not_wait_for_each_other(client: dspex.Client, tmp_path: Path) -> None:
    """A branch goes on by itself, an item's steps too, while what is beside them has not ended."""
    gate = tmp_path / "open"
    branch = dspex.sequence([say("a", fuse=False), say("{{ text }}b", fuse=False)])
    items = dspex.map("words", [say("{{ item }}", fuse=False), say("{{ text }}!", fuse=False)], limit=1, save_as="said")
    handle = await client.submit(
        dspex.pipeline([dspex.parallel([branch, items, gated(gate, text="x")], save_as="all")]), {"words": ["a", "b"]}
    )
    view = await until(client, handle, lambda view: status_of(view, "0-1") == status_of(view, "0-0") == "succeeded")
    assert (status_of(view, "0-0-1"), status_of(view, "0-2"), status_of(view, "0")) == (
        "succeeded",
        "running",
        "running",
    )
    gate.touch()
    assert (await handle.result(timeout_s=20)).status == "succeeded"


async def test_a_join_of_all_fails_at_its_deadline(client: dspex.Client, tmp_path: Path) -> None:
    join = dspex.parallel([gated(tmp_path / "never", text="never"), say("there")], timeout_s=0.3, save_as="all")
    with pytest.raises(dspex.RunFailed) as failure:
        await run(client, join)
    assert failure.value.code == "join_timed_out"


async def test_map_keeps_the_order_and_its_limit(client: dspex.Client) -> None:
    body = [say("<{{ item }}>"), dspex.native("rough.echo", outputs={"text": "echoed"})]
    output = await run(client, dspex.map("words", body, limit=7), words=[f"w{n}" for n in range(100)])
    assert output["echoed"] == [f"<w{n}>" for n in range(100)]


async def test_map_over_nothing_writes_empty_lists(client: dspex.Client) -> None:
    step = dspex.map("words", [dspex.native("rough.echo", inputs={"text": "item"})])
    assert await run(client, step, words=[]) == {"text": []}


async def test_map_collects_failures(client: dspex.Client) -> None:
    refuse = dspex.native("rough.raise", inputs={"text": "item"}, retry=dspex.RetryPolicy(attempts=1))
    body = [dspex.branch(("item == 'bad'", [refuse]), otherwise=[say("{{ item }} is fine")])]
    output = await run(client, dspex.map("words", body, on_error="collect", save_as="all"), words=["a", "bad", "c"])
    assert [item["status"] for item in output["all"]] == ["succeeded", "failed", "succeeded"]
    assert output["all"][1]["error"]["code"] == "handler_error"


@pytest.mark.parametrize(("score", "said"), [(1, "good"), (0.5, "fair"), (0, "bad")])
async def test_branch(client: dspex.Client, score: float, said: str) -> None:
    step = dspex.branch(("score > 0.9", [say("good")]), ("score > 0.1", [say("fair")]), otherwise=[say("bad")])
    assert await run(client, step, score=score) == {"text": said}


async def test_condition_that_cannot_be_evaluated(client: dspex.Client) -> None:
    with pytest.raises(dspex.RunFailed) as failure:
        await run(client, dspex.branch(("score > 'a'", [say("x")])), score=1)
    assert failure.value.code == "condition_failed"


async def test_loop_ends_when_its_condition_holds_or_its_bound_is_reached(client: dspex.Client) -> None:
    grow = say("{{ text }}x", outputs={"text": "text"})
    assert await run(client, dspex.loop([grow], until="size(text) >= 5"), text="") == {"text": "xxxxx"}
    assert await run(client, dspex.loop([grow], until="false", at_most=3), text="") == {"text": "xxx"}


async def test_sleep(client: dspex.Client) -> None:
    handle = await client.submit(dspex.pipeline([dspex.sleep(0.3), say("awake")]))
    result = await handle.result(timeout_s=20)
    view = await handle.view()
    assert result.output == {"text": "awake"}
    assert view.ended_ms - view.accepted_ms >= 300


async def test_a_wait_takes_a_signal_sent_before_or_after_it(client: dspex.Client) -> None:
    steps = [dspex.wait("early"), dspex.wait("late"), say("{{ first }} {{ second }}")]
    handle = await client.submit(dspex.pipeline([dspex.sleep(0.2), *steps]))
    assert await handle.signal("early", {"first": "a"}, id="one")
    assert not await handle.signal("early", {"first": "other"}, id="one")
    await until(client, handle, lambda view: view.waiting_for == ("late",))
    assert await handle.signal("late", {"second": "b"})
    assert (await handle.result(timeout_s=20)).output == {"text": "a b"}
    with pytest.raises(dspex.DspexError) as refusal:
        await handle.signal("late")
    assert refusal.value.code == "session_ended"


async def test_a_wait_that_ends_by_its_time(client: dspex.Client) -> None:
    assert await run(client, dspex.wait("go", timeout_s=0.2, default={"said": None})) == {"said": None}
    with pytest.raises(dspex.RunFailed) as failure:
        await run(client, dspex.wait("go", timeout_s=0.2))
    assert failure.value.code == "wait_timed_out"


async def test_a_pipeline_within_is_a_session_of_its_own(client: dspex.Client) -> None:
    await client.put_pipeline(dspex.pipeline([say("Hello {{ name }}")], name="greeting"))
    outer = dspex.pipeline([dspex.subpipeline("greeting", outputs={"text": "greeted"}), say("{{ greeted }}!")])
    handle = await client.submit(outer, {"name": "Ada"})
    assert (await handle.result(timeout_s=20)).output == {"text": "Hello Ada!"}
    child = (await handle.view()).steps[0].child
    view = await client.session(child).view()
    assert view.parent is not None
    assert (view.parent.session, view.parent.node, view.status) == (handle.id, "0", "succeeded")


async def test_a_pipeline_within_is_cancelled_with_its_parent(client: dspex.Client, tmp_path: Path) -> None:
    await client.put_pipeline(dspex.pipeline([gated(tmp_path / "never", text="x")], name="endless"))
    handle = await client.submit(dspex.pipeline([dspex.subpipeline("endless")]))
    view = await until(client, handle, lambda view: status_of(view, "0") == "running")
    child = client.session(view.steps[0].child)
    await until(client, handle, lambda view: status_of(view, "0") == "running")
    with anyio.fail_after(20):
        while True:  # until the child is there
            try:
                await child.view()
                break
            except dspex.DspexError:
                await anyio.sleep(0.01)
    assert (await handle.cancel("enough")).status == "cancelled"
    assert (await handle.result(timeout_s=20)).status == "cancelled"
    assert (await child.result(timeout_s=20)).status == "cancelled"


async def test_pause_holds_what_is_next_and_resume_goes_on(client: dspex.Client, tmp_path: Path) -> None:
    gate = tmp_path / "open"
    handle = await client.submit(dspex.pipeline([gated(gate, text="x"), say("{{ text }}y")]))
    await until(client, handle, lambda view: status_of(view, "0") == "running")
    assert (await handle.pause("lunch")).paused
    assert (await handle.pause()).paused
    gate.touch()
    await until(client, handle, lambda view: status_of(view, "0") == "succeeded")
    assert status_of(await handle.view(), "1") == "running"
    assert not (await handle.resume()).paused
    assert (await handle.result(timeout_s=20)).output == {"text": "xy"}
    types = [type(event.event).__name__ async for event in handle.events()]
    assert types == [
        "SessionAccepted",
        "SessionPaused",
        "StepSucceeded",
        "SessionResumed",
        "StepSucceeded",
        "SessionEnded",
    ]


async def test_retry_goes_on_from_what_failed(client: dspex.Client, tmp_path: Path) -> None:
    flaky = dspex.native("rough.once", path=str(tmp_path / "tried"), retry=dspex.RetryPolicy(attempts=1))
    handle = await client.submit(dspex.pipeline([dspex.native("rough.stamp"), flaky, say("{{ stamp }}")]))
    assert (await handle.result(timeout_s=20)).status == "failed"
    stamp = next(step for step in [event async for event in handle.events()] if step.node == "0").event.outputs["stamp"]
    again = await handle.retry()
    assert (await again.result(timeout_s=20)).output == {"text": str(stamp)}
    view = await again.view()
    assert view.origin is not None
    assert (view.origin.session, view.origin.node) == (handle.id, "1")
    with pytest.raises(dspex.DspexError) as refusal:
        await again.retry()
    assert refusal.value.code == "session_not_failed"


async def test_a_retry_goes_on_in_the_pipelines_within(client: dspex.Client, tmp_path: Path) -> None:
    """In those that had begun, and in those within them."""
    once = dspex.native("rough.once", path=str(tmp_path / "tried"), retry=dspex.RetryPolicy(attempts=1))
    stamp = dspex.native("rough.stamp")
    await client.put_pipeline(dspex.pipeline([stamp, once, say("{{ stamp }}")], name="retried_innermost"))
    inner = [dspex.native("rough.stamp", outputs={"stamp": "before"}), dspex.subpipeline("retried_innermost")]
    await client.put_pipeline(dspex.pipeline(inner, name="retried_inner", output=["before", "text"]))
    beside = dspex.parallel([dspex.subpipeline("retried_inner"), dspex.wait("never")])
    handle = await client.submit(dspex.pipeline([beside], name="retried"))
    assert (await handle.result(timeout_s=20)).status == "failed"

    async def ran(session: dspex.Session, *nodes: str) -> list[str]:
        """Which of the steps have run themselves, down there."""
        for node in nodes:
            session = client.session(next(step.child for step in (await session.view()).steps if step.node == node))
        steps = [event.node async for event in session.events() if isinstance(event.event, StepSucceeded)]
        return sorted(steps)

    again = await handle.retry()
    await again.signal("never")
    assert (await again.result(timeout_s=20)).status == "succeeded"
    assert await ran(handle, "0-0") == ["0"]
    assert await ran(handle, "0-0", "1") == ["0"]
    assert await ran(again, "0-0") == ["1"]
    assert await ran(again, "0-0", "1") == ["1", "2"]


async def test_a_signal_that_nobody_took_is_kept_for_the_retry(client: dspex.Client, tmp_path: Path) -> None:
    flaky = dspex.native("rough.once", path=str(tmp_path / "tried"), retry=dspex.RetryPolicy(attempts=1))
    steps = [dspex.wait("first"), flaky, dspex.wait("go"), say("{{ who }} {{ by }}")]
    handle = await client.submit(dspex.pipeline(steps))
    await handle.signal("go", {"by": "Ada"}, id="one")
    await handle.signal("first", {"who": "approved by"}, id="one")
    assert (await handle.result(timeout_s=20)).status == "failed"
    again = await handle.retry(id=f"{handle.id}-again")
    assert (await again.result(timeout_s=20)).output == {"text": "approved by Ada"}
    assert not await again.signal("go", id="one")
    assert (await handle.retry(id=again.id)).id == again.id  # it has ended, and needs no signals


async def test_fork_keeps_what_was_before_and_takes_new_input(client: dspex.Client) -> None:
    steps = [dspex.native("rough.stamp"), say("{{ stamp }} {{ word }}")]
    handle = await client.submit(dspex.pipeline(steps), {"word": "old"})
    first = (await handle.result(timeout_s=20)).output
    assert first is not None
    forked = await handle.fork("1", {"word": "new"})
    second = (await forked.result(timeout_s=20)).output
    assert second == {"text": first["text"].replace("old", "new")}
    with pytest.raises(dspex.DspexError) as refusal:
        await handle.fork("7")
    assert refusal.value.code == "unknown_step"
    assert "it has come to: 0 (rough.stamp), 1 (template)" in refusal.value.message


async def test_a_fork_finds_its_step_by_name(client: dspex.Client) -> None:
    twins = [say("{{ word }}", name="twin", outputs={"text": field}) for field in ("a", "b")]
    steps = [dspex.native("rough.stamp"), dspex.parallel(twins), say("{{ stamp }} {{ a }}", name="say")]
    handle = await client.submit(dspex.pipeline(steps, output=["a", "text"]), {"word": "old"})
    first = (await handle.result(timeout_s=20)).output
    late = (await (await handle.fork("say", {"word": "new"})).result(timeout_s=20)).output
    assert late == first
    early = (await (await handle.fork("parallel", {"word": "new"})).result(timeout_s=20)).output
    assert first is not None
    assert early == {"a": "new", "text": first["text"].replace("old", "new")}
    with pytest.raises(dspex.DspexError, match="several steps are called 'twin': say which by its place, 1-0 or 1-1"):
        await handle.fork("twin")
    with pytest.raises(dspex.DspexError, match="has not come to a step 'nobody'"):
        await handle.fork("nobody")


async def test_a_map_of_nothing_writes_empty_lists(client: dspex.Client) -> None:
    steps = [dspex.map("words", [say("{{ item }}")]), say("{{ text | length }}", outputs={"text": "count"})]
    assert await run(client, *steps, words=[]) == {"count": "0"}


async def test_a_fork_is_forked_where_its_own_results_were_kept(client: dspex.Client) -> None:
    """From a step that it has from the session before, that step and what comes after it run again; what is beside it
    does not."""
    stamp = dspex.native("rough.stamp", outputs={"stamp": "b"})
    item = dspex.native("rough.stamp", outputs={"stamp": "all"})
    steps = [dspex.native("rough.stamp", outputs={"stamp": "a"}), stamp, dspex.map("words", [item], limit=1), say("x")]
    handle = await client.submit(dspex.pipeline(steps, output=["a", "b", "all"]), {"words": ["x", "y", "z"]})
    first = (await handle.result(timeout_s=20)).output
    late = await handle.fork("3", id=f"{handle.id}-late")
    assert (await late.result(timeout_s=20)).output == first
    for node, kept in {"1": ["a"], "2": ["a", "b"], "2-1-0": ["a", "b"]}.items():
        again = (await (await late.fork(node)).result(timeout_s=20)).output
        assert first is not None
        assert again is not None
        assert [name for name in again if again[name] == first[name]] == kept
        same = [again["all"][place] == first["all"][place] for place in range(3)]
        assert same == ([True, False, True] if node == "2-1-0" else [False] * 3)
    assert (await handle.fork("3", id=late.id)).id == late.id
    with pytest.raises(dspex.DspexError) as refusal:
        await handle.fork("1", id=late.id)
    assert refusal.value.code == "session_exists"


async def test_everything_nested_in_everything(client: dspex.Client, running: RunningSystem) -> None:
    """A map of loops of branches with parallels and waits in them."""
    inner = dspex.parallel([say("{{ item }}{{ text }}", outputs={"text": "text"}), dspex.sleep(0.01)])
    body = [
        say("", outputs={"text": "text"}),
        dspex.loop([dspex.branch(("size(text) < 2", [inner]), otherwise=[inner])], until="size(text) >= 3"),
        dspex.wait("go", timeout_s=0.05, default={"went": True}),
    ]
    output = await run(client, dspex.map("words", body, limit=3, save_as="all"), words=["a", "b", "c", "d"])
    assert [item["outputs"]["text"] for item in output["all"]] == ["aaa", "bbb", "ccc", "ddd"]
    assert all(item["outputs"]["went"] for item in output["all"])
