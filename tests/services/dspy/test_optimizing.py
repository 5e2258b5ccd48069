"""Optimizers as jobs: equal to plain DSPy, stopped with their best, started again for free."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Literal

import anyio
import dspy
import dspy_shapes as shapes
import msgspec
import pytest
from dspy_system import System

import dspex
from dspex_bus import Message, subjects
from dspex_bus.errors import DspexError
from dspex_bus.wire import Progress, decode
from dspex_services.dspy.model import Models
from dspex_services.dspy.optimizing import optimizing
from dspex_services.dspy.optimizing.making import Setting, examples, make
from dspex_services.dspy.pool import user_module
from dspex_services.dspy.programs import Programs
from dspex_services.evaluation.builtin import normalized
from dspex_services.evaluation.datasets import load_dataset
from dspex_services.evaluation.metrics import Score, metric_spec
from dspex_services.evaluation.stored import keep_dataset
from dspex_services.optimizing import Job, JobProgress, JobRecord, ModuleSpec, Records, job_definition, number_of_trials

pytestmark = pytest.mark.anyio

PEOPLE = ["Ada Lovelace", "Kurt Goedel", "Emmy Noether", "Alan Turing", "Grace Hopper", "Mary Shelley"]
THINGS = ["pool", "lease", "worker", "router", "journal", "ledger"]
ROWS = [
    {
        "context": f"{person} designed the {thing}. {PEOPLE[place - 1]} slept.",
        "question": f"Who designed the {thing}?",
        "answer": person,
    }
    for place, (person, thing) in enumerate(zip(PEOPLE, THINGS, strict=True))
]
SIGNATURE = "context, question -> answer"
MODULE = ModuleSpec(module="dspy.Predict", signature=SIGNATURE)


@pytest.fixture
async def whole(system: System, model_environment: dict[str, str]) -> System:
    programs = Programs(Models(model_environment))
    for path in ("dspy_shapes:TwoHops", "dspy_shapes:Fickle", "dspy_shapes:timely"):
        user_module(programs, path)
    await system.serve(optimizing(programs), "optimize", slots=1)
    return system


async def job_of(whole: System, **fields: Any) -> Job:
    digest = await keep_dataset(whole.client.bus, load_dataset(ROWS))
    given = {
        "module": MODULE,
        "trainset": digest,
        "inputs": ("context", "question"),
        "metric": metric_spec("exact_match"),
    }
    return Job(**{**given, **fields})


async def ran(whole: System, **fields: Any) -> dict[str, Any]:
    result = await whole.client.run(job_definition(await job_of(whole, **fields)), timeout_s=50)
    assert result.output is not None
    return result.output


def exact(example: Any, prediction: Any, trace: Any = None) -> float:
    return float(normalized(example.answer) == normalized(prediction.answer))


async def plainly(whole: System, make: Any, **arguments: Any) -> Any:
    """What plain DSPy makes of the same module, examples and model: a state."""

    def work() -> Any:
        lm = whole.programs.models.get(None, None, None)
        trainset = [dspy.Example(**row).with_inputs("context", "question") for row in ROWS]
        with dspy.context(lm=lm):
            return make().compile(dspy.Predict(SIGNATURE), trainset=trainset, **arguments).dump_state()

    return await anyio.to_thread.run_sync(work)


async def test_bootstrapping_gives_what_plain_dspy_gives(whole: System) -> None:
    found = await ran(whole, optimizer="bootstrap_few_shot", options={"max_labeled_demos": 2}, program="qa")
    assert (found["program"], found["score"], found["stopped"]) == ("qa@1", None, "")
    assert found["usage"]["calls"] > 0
    plain = await plainly(whole, lambda: dspy.BootstrapFewShot(metric=exact, max_labeled_demos=2))
    assert await whole.client.programs.state(found["digest"]) == plain
    version = await whole.client.programs.version("qa")
    assert (version.origin.optimizer, version.origin.metric) == ("BootstrapFewShot", "exact_match")
    output = await whole.step("dspy.Program", {name: ROWS[0][name] for name in ("context", "question")}, program="qa")
    assert output == {"answer": "Ada Lovelace"}


@pytest.mark.slow
async def test_examples_are_bootstrapped_side_by_side(whole: System) -> None:
    """As many as are needed at least, each once: DSPy's own loop asks nothing that was not asked ahead."""
    programs, going, most, asked = whole.programs, 0, 0, 0
    before = programs.predict

    async def predict(*given: Any, **settings: Any) -> Any:
        nonlocal going, most, asked
        going, asked = going + 1, asked + 1
        most = max(most, going)
        try:
            await anyio.sleep(0.05)
            return await before(*given, **settings)
        finally:
            going -= 1

    programs.predict = predict  # type: ignore[method-assign]
    found = await ran(whole, optimizer="bootstrap_few_shot", options={"max_bootstrapped_demos": 3}, program="qa")
    assert most == 3
    assert found["usage"]["calls"] + found["usage"]["saved_calls"] == asked
    assert found["usage"]["calls"] == found["usage"]["saved_calls"]


async def test_mipro_gives_what_plain_dspy_gives_and_tells_how_far_it_is(whole: System) -> None:
    job = await job_of(whole, optimizer="miprov2", options={"num_candidates": 3}, seed=4, promote="production")
    said: list[JobProgress] = []

    async def hear(message: Message) -> None:
        details = decode(Progress, message.data, subject=message.subject).details
        if details:
            said.append(msgspec.convert(details, JobProgress))

    session = await whole.client.submit(job_definition(job))
    subscription = await whole.client.bus.subscribe(subjects.session_progress(session.id), hear)
    result = await session.result(timeout_s=50)
    await subscription.close()
    assert result.output is not None, result.error
    found = result.output
    assert (found["program"], len(found["trials"])) == ("Predict-miprov2@1", 1 + number_of_trials(1, 3))
    plain = await plainly(
        whole,
        lambda: dspy.MIPROv2(metric=exact, auto=None, num_candidates=3, seed=4),
        num_trials=number_of_trials(1, 3),
        minibatch=False,
    )
    assert await whole.client.programs.state(found["digest"]) == plain
    assert found["score"] == max(trial["score"] for trial in found["trials"]) > found["baseline"]
    assert said[0].trials < said[-1].trials
    assert (said[-1].phase, said[-1].of, said[-1].best) == ("done", len(found["trials"]), found["score"])
    record = await Records(whole.client.bus).get(session.id)
    assert record is not None
    assert (record.program, record.usage.calls) == ("Predict-miprov2@1", found["usage"]["calls"])
    assert (await whole.client.programs.version("Predict-miprov2@production")).digest == found["digest"]


async def told(whole: System, job: Job) -> list[JobProgress]:
    """All that is said of how far the job is, the last word included."""
    said: list[JobProgress] = []

    async def hear(message: Message) -> None:
        details = decode(Progress, message.data, subject=message.subject).details
        if details:
            said.append(msgspec.convert(details, JobProgress))

    session = await whole.client.submit(job_definition(job))
    async with whole.client.bus.subscribed(subjects.session_progress(session.id), hear):
        result = await session.result(timeout_s=50)
    assert result.output is not None, result.error
    return said


@pytest.mark.parametrize(
    ("module", "depth", "evaluations"),
    [(MODULE, 2, 2 * 2), (ModuleSpec(module="dspy_shapes:TwoHops"), 2, 2 * 2 * (1 + 2))],
)
async def test_copro_tells_how_many_evaluations_there_will_be(
    whole: System, module: ModuleSpec, depth: int, evaluations: int
) -> None:
    job = await job_of(whole, module=module, optimizer="copro", options={"breadth": 2, "depth": depth}, seed=3)
    said = await told(whole, job)
    assert (said[-1].trials, said[-1].of) == (evaluations, evaluations)
    assert said[-1].left_s is None


@pytest.mark.parametrize(("budget", "calls"), [({"max_metric_calls": 20}, 20), ({"max_full_evals": 3}, 3 * len(ROWS))])
async def test_gepa_tells_how_many_examples_there_will_be(whole: System, budget: dict[str, int], calls: int) -> None:
    job = await job_of(whole, optimizer="gepa", options={**budget, "reflection_minibatch_size": 2}, seed=3)
    said = await told(whole, job)
    assert {one.examples_of for one in said} - {0} == {calls}
    assert all(one.left_s is not None for one in said if 0 < one.examples < one.examples_of)
    assert said[-1].fraction == min(1.0, said[-1].examples / calls)


def test_gepas_budget_is_what_it_makes_of_its_options() -> None:
    """``compile`` works out the same."""
    student, lm = dspy.Predict(SIGNATURE), dspy.LM("openai/none", api_key="none")
    setting = Setting(
        metric=lambda *_: Score(1.0), spec=metric_spec("exact_match"), threads=1, prompt_lm=lm, task_lm=lm, seed=3
    )
    rows = examples(ROWS, ("context", "question"))

    class Compiled(Exception):
        pass

    def budget_of(options: dict[str, Any], val: int) -> tuple[int, int]:
        made = make("gepa", options, setting, student, (len(rows), val))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("dspy.teleprompt.gepa.gepa_utils.DspyAdapter", _raises(Compiled))
            with pytest.raises(Compiled):
                made.run(student, rows, rows[:val] if val else None)
        return made.examples_of, made.optimizer.max_metric_calls

    for options in ({"auto": "light"}, {"auto": "heavy"}, {"max_full_evals": 2}, {"max_metric_calls": 77}):
        for val in (0, 2):
            ours, theirs = budget_of(options, val)
            assert ours == theirs, (options, val)


def _raises(error: type[Exception]) -> Callable[..., Any]:
    def instead(*_: Any, **__: Any) -> Any:
        raise error

    return instead


EVERY = {
    "labeled_few_shot": {"k": 2},
    "bootstrap_random_search": {"num_candidate_programs": 2, "max_labeled_demos": 2},
    "bootstrap_optuna": {"num_candidate_programs": 3, "max_labeled_demos": 2},
    "copro": {"breadth": 2, "depth": 1},
    "simba": {"bsize": 4, "num_candidates": 2, "max_steps": 1},
    "gepa": {"max_metric_calls": 20, "reflection_minibatch_size": 2},
    "infer_rules": {"num_candidates": 2, "num_rules": 2, "max_labeled_demos": 2},
    "bettertogether": {
        "optimizers": {
            "p": {"optimizer": "bootstrap_random_search", "num_candidate_programs": 1},
            "q": {"optimizer": "miprov2", "num_candidates": 2},
        },
        "strategy": "p -> q",
        "valset_ratio": 0.4,
    },
}


def feedback(example: Any, prediction: Any, trace: Any = None, name: Any = None, name_trace: Any = None) -> Any:
    score = exact(example, prediction)
    said = "" if score else f"answer should be {example.answer!r}, not {prediction.answer!r}"
    return dspy.Prediction(score=score, feedback=said or f"This got a score of {score}.")


def plain_optimizers(lm: Any) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The same as EVERY, made by hand, and what ``compile`` is given besides. Optuna's is not here: it has no seed."""
    search = {"num_candidate_programs": 2, "max_labeled_demos": 2}
    return {
        "labeled_few_shot": (dspy.LabeledFewShot(k=2), {}),
        "bootstrap_random_search": (dspy.BootstrapFewShotWithRandomSearch(metric=exact, **search), {}),
        "copro": (dspy.COPRO(prompt_model=lm, metric=exact, breadth=2, depth=1), {"eval_kwargs": {}}),
        "simba": (dspy.SIMBA(metric=exact, prompt_model=lm, bsize=4, num_candidates=2, max_steps=1), {"seed": 3}),
        "gepa": (
            dspy.GEPA(metric=feedback, reflection_lm=lm, max_metric_calls=20, reflection_minibatch_size=2, seed=3),
            {},
        ),
        "infer_rules": (dspy.InferRules(metric=exact, num_candidates=2, num_rules=2, max_labeled_demos=2), {}),
    }


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", EVERY)
async def test_every_optimizer_makes_what_plain_dspy_makes_and_twice_the_same(whole: System, optimizer: str) -> None:
    first = await ran(whole, optimizer=optimizer, options=EVERY[optimizer], seed=3, program="first")
    again = await ran(whole, optimizer=optimizer, options=EVERY[optimizer], seed=3, program="again")
    assert first["digest"] == again["digest"]
    assert first["usage"].get("calls", 0) > 5 or optimizer == "labeled_few_shot"
    assert "calls" not in again["usage"]
    question = {name: ROWS[0][name] for name in ("context", "question")}
    assert (await whole.step("dspy.Program", question, program="first"))["answer"]
    lm = whole.programs.models.get(None, None, None)
    with dspy.context(lm=lm):
        made = plain_optimizers(lm).get(optimizer)
    if made is not None:
        state = await plainly(whole, lambda: made[0], **made[1])
        assert await whole.client.programs.state(first["digest"]) == state


@pytest.fixture
def modules() -> list[str]:
    return ["dspy_shapes:TwoHops", "dspy_shapes:Fickle"]


class Facts(dspy.Signature):  # type: ignore[misc]
    """Say when and by whom."""

    context: str = dspy.InputField()
    seconds: int = dspy.OutputField()
    names: list[str] = dspy.OutputField(desc="who did it")
    kind: Literal["lease", "pool", "worker"] = dspy.OutputField()


FACTS = [
    {"context": f"{person} set the {kind} to {seconds} seconds.", "seconds": seconds, "names": [person], "kind": kind}
    for person, kind, seconds in zip(PEOPLE, ["pool", "lease", "worker"] * 2, range(5, 11), strict=True)
]


@pytest.mark.slow
async def test_typed_outputs_and_modules_of_ones_own_are_optimized_as_plain_dspy_does(whole: System) -> None:
    typed_module = dspy.ChainOfThought(Facts)
    client = whole.client

    async def both(module: Any, rows: list[dict[str, Any]], inputs: tuple[str, ...], metric: Any, name: str) -> None:
        options = {"max_labeled_demos": 1, "max_bootstrapped_demos": 2}
        found = await client.optimize(
            module, rows, inputs=inputs, metric=name, optimizer="bootstrap_few_shot", program="mine", **options
        )

        def work() -> Any:
            trainset = [dspy.Example(**row).with_inputs(*inputs) for row in rows]
            with dspy.context(lm=whole.programs.models.get(None, None, None)):
                made = dspy.BootstrapFewShot(metric=metric, **options)
                return made.compile(module.deepcopy(), trainset=trainset).dump_state()

        assert await client.programs.state(found.digest) == msgspec.to_builtins(await anyio.to_thread.run_sync(work))

    await both(typed_module, FACTS, ("context",), shapes.timely, "dspy_shapes:timely")
    await both(shapes.TwoHops(), ROWS, ("context", "question"), exact, "exact_match")


async def test_the_client_takes_modules_metrics_and_budgets(whole: System) -> None:
    asked: list[str] = []

    def close(example: Any, prediction: Any, trace: Any = None) -> bool:
        asked.append(prediction.answer)
        return bool(normalized(example.answer) == normalized(prediction["answer"]))

    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    seen: list[JobProgress] = []
    found = await whole.client.optimize(
        module, ROWS, metric=close, num_candidates=2, seed=1, program="qa", on_progress=seen.append
    )
    assert (found.program, found.score, found.baseline) == ("qa@1", 100.0, 0.0)
    assert asked
    assert seen[-1].phase == "done"
    cheap = await whole.client.optimize(
        dspy.ChainOfThought(SIGNATURE), ROWS, metric="f1", num_candidates=4, seed=2, budget={"calls": 7}, program="qa"
    )
    assert (cheap.stopped, cheap.usage.calls) == ("budget: calls", 7)
    record = await whole.client.optimization(cheap.session).record()
    assert record is not None
    assert (record.stopped, record.program) == ("budget: calls", cheap.program)
    further = await whole.client.optimize("qa@1", ROWS, metric="exact_match", optimizer="labeled_few_shot", k=1)
    origin = (await whole.client.programs.version(further.program)).origin
    assert (origin.parent, origin.module) == (found.digest, "dspy.Predict")


async def test_what_is_wrong_with_a_job_is_said_before_anything_is_spent(whole: System) -> None:
    class Mine(dspy.Module):  # type: ignore[misc]
        def forward(self, question: str) -> Any:
            return dspy.Prediction(answer=question)

    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    for given, code in (
        ({"auto": "light", "num_candidates": 3}, "conflicting_options"),
        ({"candidates": 3}, "invalid_option"),
        ({"metric": {"judge": "x", "name": "f1"}}, "invalid_metric"),
        ({"metric": "exactly"}, "unknown_metric"),
        ({"promote": "a b"}, "invalid_name"),
        ({"program": "a b"}, "invalid_name"),
        ({"metric": {"name": "f1", "field": "reply"}}, "missing_field"),
        ({"budget": {"dollars": 3}}, "invalid_job"),
        ({"trainset": [{"question": "?"}] * 3}, "missing_field"),
        ({"module": Mine(), "inputs": ["question"]}, "invalid_job"),
        ({"module": "nobody"}, "unknown_program"),
        ({"optimizer": "mipro9"}, "unknown_optimizer"),
    ):
        with pytest.raises(DspexError) as refused:
            await whole.client.optimize(**{"module": module, "trainset": ROWS, "metric": "f1", **given})  # type: ignore[arg-type]
        assert refused.value.code == code
    assert not (await whole.client.sessions()).sessions
    with pytest.raises(DspexError) as failed:
        await whole.client.optimize(module, ROWS, metric="os:system", optimizer="bootstrap_few_shot")
    assert failed.value.code == "unknown_metric"
    with pytest.raises(DspexError) as failed:  # of a client that is not ours
        await ran(whole, promote="a b")
    assert failed.value.code == "invalid_name"
    assert not await whole.client.programs.list()


async def test_what_only_fails_is_told_and_makes_no_program(whole: System) -> None:
    def broken(example: Any, prediction: Any) -> float:
        return float(prediction.nothing)

    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    optimizers: tuple[dict[str, Any], ...] = (
        {"optimizer": "bootstrap_few_shot"},
        {"optimizer": "miprov2", "num_candidates": 2},
        {"optimizer": "gepa", "max_full_evals": 1},
    )
    for options in optimizers:
        with pytest.raises(DspexError) as failed:
            await whole.client.optimize(module, ROWS, metric=broken, **options)
        assert (failed.value.code, "nothing" in str(failed.value)) == ("metric_failed", True), options
        with pytest.raises(DspexError) as failed:
            await whole.client.optimize(module, ROWS, metric="f1", model="anthropic/nobody", **options)
        assert failed.value.code in ("lm_auth", "lm_bad_request"), options
    assert not await whole.client.programs.list()


async def test_a_metric_that_works_for_some_answers_is_no_failure(whole: System) -> None:
    def fickle(example: Any, prediction: Any) -> float:
        if normalized(example.answer) != normalized(prediction.answer):
            raise ValueError("that is no answer at all")
        return 1.0

    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    found = await whole.client.optimize(module, ROWS, metric=fickle, num_candidates=2, seed=1)
    assert found.score == 100.0


async def test_a_job_whose_caller_is_gone_ends_with_the_best_so_far(
    whole: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dspex_services.dspy.asking._AWAY_S", 0.1)
    asked: list[str] = []
    gone = anyio.Event()
    loop = asyncio.get_running_loop()

    def metric(example: Any, prediction: Any) -> float:
        asked.append(prediction.answer)
        if len(asked) == 18:
            loop.call_soon_threadsafe(gone.set)
        return float(normalized(example.answer) == normalized(prediction.answer))

    job = await whole.client.start_optimizing(
        dspex.module("dspy.Predict", signature=SIGNATURE),
        ROWS,
        metric=metric,
        optimizer="bootstrap_random_search",
        num_candidate_programs=30,
    )
    with anyio.fail_after(30):
        await gone.wait()
        assert job._served is not None
        await job._served.close()
        found = await job.result()
    assert "gone" in found.stopped
    assert 0 < len(found.trials) < 30
    assert (found.score, all(trial.score == 0 for trial in found.trials[-3:])) == (100.0, False)


async def test_cancelling_keeps_the_best_so_far(whole: System) -> None:
    slow: list[str] = []

    def metric(example: Any, prediction: Any) -> float:
        slow.append(prediction.answer)
        if len(slow) > 18:
            time.sleep(0.3)
        return float(normalized(example.answer) == normalized(prediction.answer))

    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    job = await whole.client.start_optimizing(
        module,
        ROWS,
        metric=metric,
        optimizer="bootstrap_random_search",
        num_candidate_programs=30,
        program="kept",
        promote="production",
    )
    with anyio.fail_after(20):
        async for said in job.progress():
            if said.best == 100.0:
                await job.cancel("enough")
                break
        assert (await job.session.result()).status == "cancelled"
        while (record := await job.record()) is None or not record.program:
            await anyio.sleep(0.05)
    version = await whole.client.programs.version("kept")
    assert (await whole.client.programs.get("kept")).tags == {}  # what was cancelled goes into no production
    assert (record.program, version.origin.scores, version.origin.note) == (
        "kept@1",
        {"trainset": 100.0},
        "stopped: cancelled",
    )


@pytest.mark.slow
async def test_programs_that_vote_and_one_that_looks_at_the_nearest(whole: System) -> None:
    client = whole.client
    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    for k in (0, 1, 2):
        await client.optimize(module, ROWS, metric="f1", optimizer="labeled_few_shot", k=k, program="member")
    members = ["member@1", "member@2", "member@3"]
    found = await client.optimize(
        None, ROWS, valset=ROWS[:3], metric="exact_match", optimizer="ensemble", programs=members, program="vote"
    )
    assert (found.program, found.score) == ("vote@1", 100.0)
    question = {name: ROWS[0][name] for name in ("context", "question")}
    assert await whole.step("dspy.Program", question, program="vote") == {"answer": "Ada Lovelace"}

    near = await client.optimize(
        module, ROWS[1:], valset=ROWS[:2], metric="exact_match", optimizer="knn_few_shot", k=2, program="near"
    )
    assert (near.score, near.baseline) == (100.0, 0.0)
    assert (await whole.step("dspy.Program", question, program="near"))["answer"] == "Ada Lovelace"
    with pytest.raises(DspexError) as refused:
        await client.optimize(module, ROWS, metric={"judge": "x"}, optimizer="knn_few_shot", k=2)
    assert refused.value.code == "conflicting_options"


async def test_a_job_that_gets_no_further_is_given_up(whole: System) -> None:
    records = Records(whole.client.bus)
    await records.put("stuck", JobRecord(started_ms=1, starts=5, idle_starts=5))
    definition = job_definition(await job_of(whole, optimizer="bootstrap_few_shot"))
    result = await (await whole.client.submit(definition, session="stuck")).result(timeout_s=20)
    assert result.error is not None
    assert result.error.code == "optimizer_lost"


@pytest.mark.slow
async def test_a_large_state_travels_by_its_digest(whole: System) -> None:
    long = " ".join(f"word{number}" for number in range(30_000))
    rows = [{**row, "context": f"{row['context']} {long}"} for row in ROWS[:3]]
    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    found = await whole.client.optimize(
        module, rows, valset=rows[:1], metric="exact_match", optimizer="labeled_few_shot", k=2
    )
    assert found.score == 100.0
    assert not [trial for trial in found.trials if trial.examples != 1]


@pytest.mark.slow
async def test_another_start_decides_by_the_same_answers_of_code_that_changes_its_mind(whole: System) -> None:
    given = {"metric": "f1", "inputs": ["question"], "optimizer": "bootstrap_random_search", "seed": 1}
    rows = [{"question": row["question"], "answer": f"{row['question']} {place}"} for place, row in enumerate(ROWS, 1)]
    found = [
        await whole.client.optimize("dspy_shapes:Fickle", rows, num_candidate_programs=2, **given) for _ in range(2)
    ]
    called = shapes.Fickle.calls
    assert found[0].trials == found[1].trials
    assert found[0].digest == found[1].digest
    await whole.client.optimize("dspy_shapes:Fickle", rows, num_candidate_programs=2, **given)
    assert shapes.Fickle.calls == called > 0


@pytest.mark.slow
async def test_jobs_score_by_handlers_and_judges(whole: System) -> None:
    await whole.serve(shapes.handlers, "shapes")
    module = dspex.module("dspy.Predict", signature=SIGNATURE)
    given = {"optimizer": "bootstrap_random_search", "num_candidate_programs": 1, "seed": 1}
    handled = await whole.client.optimize(
        module, ROWS, metric={"handler": "score.short", "with": {"longest": 2}}, **given
    )
    assert (handled.baseline, handled.score) == (0.0, 100.0)
    judged = await whole.client.optimize(module, ROWS, metric={"judge": "Does it name a person?"}, **given)
    assert judged.score is not None
    asked = [one.usage.calls + one.usage.saved_calls for one in (handled, judged)]
    assert asked[1] > asked[0]  # the judge is asked for every prediction
