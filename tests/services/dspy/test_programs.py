"""Stored programs: names, versions and tags; pools follow a promotion; DSPy reads what we write and the reverse."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import anyio
import dspy
import pytest
from dspy_system import System

import dspex
from dspex_bus.errors import InvalidRequest, NotFound
from dspex_bus.wire import StepSucceeded
from dspex_services.programs import Origin, ProgramStore, from_file, to_file
from dspex_services.programs.fitting import check_state

pytestmark = pytest.mark.anyio

SIGNATURE = "context, question -> answer"
CONTEXT = "A worker sends a heartbeat every 5 seconds. Ada Lovelace designed the pool."
INPUTS = {"context": CONTEXT, "question": "Who designed the pool?"}
LONG, BRIEF = "Ada Lovelace designed the pool.", "Ada Lovelace"
ORIGIN = Origin(module="dspy.ChainOfThought", signature=SIGNATURE)


def chain(*demos: dict[str, str], instructions: str = "Answer.") -> Any:
    """A program as an optimizer leaves it."""
    module = dspy.ChainOfThought(dspy.Signature(SIGNATURE, instructions))
    module.predict.demos = [dspy.Example(**demo) for demo in demos]
    return module


DEMO = {"context": "Kurt built it.", "question": "Who built it?", "reasoning": "It says so.", "answer": "Kurt"}


@pytest.fixture
def store(system: System) -> ProgramStore:
    return system.client.programs


def state(module: Any) -> dict[str, Any]:
    return json.loads(json.dumps(module.dump_state()))


async def test_versions_tags_promotion_and_rollback(store: ProgramStore) -> None:
    for number in range(1, 4):
        made = await store.put("qa", state(chain(instructions=f"Answer {number}.")), ORIGIN)
        assert made.version == number
        await store.promote(f"qa@{number}")
    again = await store.put("qa", state(chain(instructions="Answer 3.")), ORIGIN)
    assert again.version == 3
    assert (await store.version("qa@production")).version == 3
    assert (await store.version("qa")).version == 3
    assert (await store.rollback("qa")).version == 2
    assert (await store.rollback("qa")).version == 1
    with pytest.raises(NotFound):
        await store.rollback("qa")
    assert (await store.promote("qa@latest", "staging")).version == 3
    with pytest.raises(NotFound, match="production"):
        await store.version("qa@nothing")
    with pytest.raises(InvalidRequest):
        await store.promote("qa", "7")
    assert [program.name for program in await store.list()] == ["qa"]
    await store.delete("qa")
    with pytest.raises(NotFound):
        await store.get("qa")


async def test_those_who_promote_at_once_all_succeed(store: ProgramStore) -> None:
    for number in range(4):
        await store.put("qa", state(chain(instructions=f"Answer {number}.")), ORIGIN)
    async with anyio.create_task_group() as group:
        for number in range(1, 5):
            group.start_soon(store.promote, f"qa@{number}", f"tag{number}")
    assert (await store.get("qa")).tags == {f"tag{number}": number for number in range(1, 5)}


async def test_a_running_pool_follows_a_promotion_within_a_second(system: System, store: ProgramStore) -> None:
    plain = await store.put("qa", state(chain()), ORIGIN)
    brief = await store.put("qa", state(chain(DEMO)), ORIGIN)
    await store.promote("qa@1")
    pipeline = dspex.pipeline(
        [dspex.module("dspy.ChainOfThought", signature=SIGNATURE, program="qa@production")], name="ask"
    )

    async def ask() -> tuple[str, str]:
        session = await system.client.submit(pipeline, INPUTS)
        result = await session.result(timeout_s=20)
        assert result.output is not None, result
        return result.output["answer"], (await session.view()).steps[0].program

    assert await ask() == (LONG, plain.digest)
    await store.promote("qa@2")
    with anyio.fail_after(1):
        while await ask() != (BRIEF, brief.digest):
            await anyio.sleep(0.01)
    await store.rollback("qa")
    with anyio.fail_after(1):
        while await ask() != (LONG, plain.digest):
            await anyio.sleep(0.01)


async def test_a_program_runs_as_it_was_made(system: System, store: ProgramStore) -> None:
    await store.put("qa", state(chain(DEMO)), ORIGIN, tag="production")
    found = await system.step("dspy.Program", INPUTS, program="qa@production")
    assert found["answer"] == BRIEF
    await store.put("odd", state(chain()), Origin(module="elsewhere.programs:Odd"))
    assert (await system.refused("dspy.Program", INPUTS, program="odd")).code == "unknown_module"
    assert (await system.refused("dspy.Program", INPUTS, program="none")).code == "unknown_program"


async def test_another_modules_program_is_refused(system: System, store: ProgramStore) -> None:
    await store.put("qa", state(chain()), ORIGIN)
    error = await system.refused("dspy.Predict", INPUTS, signature=SIGNATURE, program="qa")
    assert (error.code, "self" in error.message) == ("program_mismatch", True)
    other = {"context": INPUTS["context"], "query": INPUTS["question"]}
    error = await system.refused("dspy.ChainOfThought", other, signature="context, query -> answer", program="qa")
    assert (error.code, SIGNATURE in error.message) == ("program_mismatch", True)
    typed = await system.step("dspy.ChainOfThought", INPUTS, signature="context, question: str -> answer", program="qa")
    assert typed["answer"]


@pytest.mark.parametrize(
    ("module", "signature", "said"),
    [
        ("dspy.Predict", SIGNATURE, "predictors predict"),
        ("dspy.ChainOfThought", "question -> answer", "4 fields"),
        ("dspy.ChainOfThought", "a, b -> c", "its demos"),
    ],
)
def test_a_file_of_another_module_or_signature_is_refused(module: str, signature: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        check_state(state(chain(DEMO)), module, signature)
    assert refused.value.code == "program_mismatch"
    check_state(state(chain(DEMO)), "dspy.ChainOfThought", SIGNATURE)


async def test_a_bare_predictors_state(system: System, store: ProgramStore, tmp_path: Path) -> None:
    module = dspy.Predict(SIGNATURE)
    module.demos = [dspy.Example(**DEMO)]
    module.save(tmp_path / "bare.json")
    await store.put("bare", from_file(tmp_path / "bare.json"))
    found = await system.step("dspy.Predict", INPUTS, signature=SIGNATURE, program="bare")
    assert found["answer"] == BRIEF
    to_file(await store.state((await store.version("bare")).digest), tmp_path / "again.json")
    again = dspy.Predict(SIGNATURE)
    again.load(tmp_path / "again.json")
    assert again.dump_state() == module.dump_state()


async def test_dspy_loads_what_we_export_and_we_what_it_saved(
    system: System, store: ProgramStore, tmp_path: Path
) -> None:
    saved = tmp_path / "saved.json"
    chain(DEMO, instructions="Be brief.").save(saved)
    version = await store.put("qa", from_file(saved), ORIGIN, tag="production")
    assert version.origin.dspy_version == dspy.__version__
    assert (await system.step("dspy.Program", INPUTS, program="qa@production"))["answer"] == BRIEF
    exported = tmp_path / "exported.json"
    to_file(await store.state(version.digest), exported)
    loaded = dspy.ChainOfThought(SIGNATURE)
    loaded.load(exported)
    assert loaded.predict.signature.instructions == "Be brief."
    assert [dict(demo) for demo in loaded.predict.demos] == [DEMO]
    assert loaded.dump_state() == chain(DEMO, instructions="Be brief.").dump_state()


async def test_pickles_are_refused_and_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    bomb = tmp_path / "program.pkl"
    bomb.write_bytes(pickle.dumps(Bomb()))
    for path in (bomb, tmp_path):
        with pytest.raises(InvalidRequest) as caught:
            from_file(path)
        assert caught.value.code == "pickle_refused"
    assert not (tmp_path / "exploded").exists()
    disguised = tmp_path / "program.json"
    disguised.write_bytes(bomb.read_bytes())
    with pytest.raises(InvalidRequest, match="not JSON"):
        from_file(disguised)


async def test_what_is_the_operators_of_a_model_is_not_kept(system: System, store: ProgramStore) -> None:
    module = chain(DEMO)
    module.set_lm(dspy.LM("openai/offline-extractive", api_base="http://127.0.0.1:1", temperature=0.3))
    document = state(module)
    document["predict"]["lm"]["extra_headers"] = {"Authorization": "secret"}
    document["predict"]["lm"]["aws_secret_access_key"] = "secret"
    version = await store.put("qa", document, ORIGIN)
    kept = await store.state(version.digest)
    assert "secret" not in json.dumps(kept)
    assert "127.0.0.1" not in json.dumps(kept)
    assert kept["predict"]["lm"]["temperature"] == 0.3
    # The pool's own address is asked, not the one in the state: nothing answers there.
    assert (await system.step("dspy.Program", INPUTS, program="qa"))["answer"] == BRIEF


async def test_a_promotion_makes_kept_outputs_of_the_step_old(system: System, store: ProgramStore) -> None:
    await store.put("kept", state(chain()), ORIGIN)
    await store.promote("kept@1")
    step = dspex.module("dspy.ChainOfThought", signature=SIGNATURE, program="kept@production", cache_s=60)
    pipeline = dspex.pipeline([step])

    async def ran() -> tuple[dict[str, Any], bool, str]:
        result = await system.client.run(pipeline, INPUTS, timeout_s=20)
        (report,) = (await system.client.session(result.session).view()).steps
        cached = [
            event.event.cached
            async for event in system.client.session(result.session).events()
            if isinstance(event.event, StepSucceeded)
        ]
        return dict(result.output or {}), cached[0], report.program

    first, cached, digest = await ran()
    assert (first["answer"], cached) == (LONG, False)
    assert await ran() == (first, True, digest)
    await store.put("kept", state(chain(DEMO)), ORIGIN)
    await store.promote("kept@2")
    with anyio.fail_after(5):
        while (await ran())[2] == digest:  # a worker follows a promotion within half a second
            pass
    promoted, _, newer = await ran()
    assert (promoted["answer"], newer != digest) == (BRIEF, True)
    await store.rollback("kept")
    with anyio.fail_after(5):
        while (await ran())[2] != digest:
            pass
    assert await ran() == (first, True, digest)
