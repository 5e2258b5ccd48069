"""The execution router: which implementation runs an operation, and what is said where none can."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dspex_bus.errors import DspexError, InvalidPipeline, InvalidRequest, NotFound, NoWorkers
from dspex_bus.wire import HandlerInfo
from dspex_router.plan import OPERATIONS, Catalog, choose

from .building import DSPY_PREDICT, PREDICT, REACT, SPLIT, catalog, compiled, refused, task

MINE = HandlerInfo(name="mine.greet", required=("text",))
MY_MODULE = HandlerInfo(name="mine.Greeter", implementation="dspy")
BOTH = catalog(native=(PREDICT, SPLIT), dspy=(DSPY_PREDICT, REACT))
ONLY_NATIVE = catalog(native=(PREDICT,))
ONLY_DSPY = catalog(dspy=(DSPY_PREDICT, REACT))
NATIVE_WITHOUT_PREDICT = catalog(native=(SPLIT,), dspy=(DSPY_PREDICT,))
NOBODY = Catalog({})
WITH_MINE = catalog(native=(PREDICT,), mine=(MINE, MY_MODULE))

CHOICES: list[tuple[str, str, Catalog, str | None, tuple[str, str, str]]] = [
    ("predict", "auto", BOTH, None, ("native", "predict", "native")),
    ("predict", "native", BOTH, None, ("native", "predict", "native")),
    ("predict", "dspy", BOTH, None, ("dspy", "dspy.Predict", "dspy")),
    ("predict", "auto", ONLY_NATIVE, None, ("native", "predict", "native")),
    ("predict", "auto", ONLY_DSPY, None, ("dspy", "dspy.Predict", "dspy")),
    ("predict", "auto", NATIVE_WITHOUT_PREDICT, None, ("dspy", "dspy.Predict", "dspy")),
    ("predict", "auto", BOTH, "dspy", ("dspy", "dspy.Predict", "dspy")),
    ("react", "auto", BOTH, None, ("dspy", "dspy.ReAct", "dspy")),
    ("react", "dspy", BOTH, None, ("dspy", "dspy.ReAct", "dspy")),
    ("split", "auto", BOTH, None, ("native", "split", "native")),
    ("mine.greet", "auto", WITH_MINE, None, ("mine", "mine.greet", "native")),
    ("mine.greet", "native", WITH_MINE, "mine", ("mine", "mine.greet", "native")),
    ("mine.Greeter", "auto", WITH_MINE, None, ("mine", "mine.Greeter", "dspy")),
    ("predict", "auto", catalog(fast=(PREDICT,)), None, ("fast", "predict", "native")),
    ("predict", "auto", catalog(native=(PREDICT,), fast=(PREDICT,)), None, ("native", "predict", "native")),
    ("predict", "auto", catalog(native=(PREDICT,), fast=(PREDICT,)), "fast", ("fast", "predict", "native")),
]


@pytest.mark.parametrize(("operation", "wanted", "offered", "pool", "chosen"), CHOICES)
def test_choice(operation: str, wanted: Any, offered: Catalog, pool: str | None, chosen: tuple[str, str, str]) -> None:
    choice = choose(operation, wanted, offered, pool=pool)
    assert (choice.pool, choice.handler, choice.implementation) == chosen
    assert choice.why


def test_the_reason_says_when_availability_decided() -> None:
    assert choose("predict", "auto", BOTH).why == OPERATIONS["predict"].why
    assert choose("predict", "auto", ONLY_DSPY).why == "no live worker offers it natively"


RICH = msgspec.structs.replace(DSPY_PREDICT, optional=(*PREDICT.optional, "adapter", "lm"))
OFFERED = catalog(native=(PREDICT, SPLIT), dspy=(RICH,))
PICTURE = {"signature": "image: dspy.Image, past: list[dspy.History] -> caption"}

NEEDS: list[tuple[dict[str, Any], str]] = [
    (PICTURE, "only DSPy handles dspy.Image, dspy.History"),
    ({"signature": {"inputs": {"image": "dspy.Image"}, "outputs": {"caption": "str"}}}, "only DSPy handles dspy.Image"),
    ({"signature": "q -> a", "adapter": "json", "lm": {}}, "only DSPy has 'adapter', 'lm'"),
]


@pytest.mark.parametrize(("options", "why"), NEEDS)
def test_what_native_does_not_cover_goes_to_dspy(options: dict[str, Any], why: str) -> None:
    choice = choose("predict", "auto", OFFERED, options=options)
    assert (choice.handler, choice.pool, choice.why) == ("dspy.Predict", "dspy", why)
    with pytest.raises(InvalidRequest) as refused:
        choose("predict", "native", OFFERED, options=options)
    assert refused.value.code == "unsupported_natively"
    assert why in refused.value.message
    with pytest.raises(NoWorkers) as missing:
        choose("predict", "auto", catalog(native=(PREDICT,)), options={**PICTURE})
    assert missing.value.message.startswith("only DSPy handles dspy.Image, dspy.History, and the pool 'dspy'")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"signature": "q -> a: list[int]", "model": "m", "unknown": 1},
        {"signature": "no signature"},
        {"signature": 7, "instructions": 8},
        {"signature": "q -> a", "instructions": "Be brief."},
    ],
)
def test_what_native_covers_or_nobody_stays_native(options: dict[str, Any]) -> None:
    assert choose("predict", "auto", OFFERED, options=options).handler == "predict"


def test_a_handler_that_reads_anything_may_have_any_constant() -> None:
    loose = msgspec.structs.replace(RICH, reads="any")
    offered = catalog(native=(PREDICT,), dspy=(loose,))
    assert choose("predict", "auto", offered, options={"signature": "q -> a", "adapter": "json"}).handler == "predict"


def test_an_operation_without_dspy_is_left_to_its_handler() -> None:
    parse = HandlerInfo(name="parse_reply", required=("signature", "text"))
    offered = catalog(native=(parse,), dspy=(RICH,))
    assert choose("parse_reply", "auto", offered, options=PICTURE).handler == "parse_reply"


TWICE = catalog(a=(PREDICT, MINE), b=(PREDICT, MINE))

REFUSALS: list[tuple[str, str, Catalog, str | None, type[DspexError], str, str]] = [
    ("react", "native", BOTH, None, InvalidRequest, "implementation_unavailable", "react has no native"),
    ("signature", "dspy", BOTH, None, InvalidRequest, "implementation_unavailable", "signature has no dspy"),
    ("predict", "auto", NOBODY, None, NoWorkers, "no_workers", "dspex pool native"),
    ("predict", "native", ONLY_DSPY, None, NoWorkers, "no_workers", "dspex pool native"),
    ("predict", "dspy", ONLY_NATIVE, None, NoWorkers, "no_workers", "dspex pool dspy"),
    ("react", "auto", ONLY_NATIVE, None, NoWorkers, "no_workers", "dspex pool dspy"),
    ("predict", "auto", BOTH, "gone", NoWorkers, "no_workers", "--pool gone"),
    ("split", "auto", BOTH, "gone", NoWorkers, "no_workers", "--pool gone"),
    ("predict", "native", NATIVE_WITHOUT_PREDICT, None, NotFound, "unknown_handler", "split"),
    ("predict", "auto", WITH_MINE, "mine", NotFound, "unknown_handler", "the pool mine offers"),
    ("predict", "auto", TWICE, None, InvalidRequest, "ambiguous_pool", "a, b"),
    ("mine.greet", "auto", TWICE, None, InvalidRequest, "ambiguous_pool", "a, b"),
    ("mine.greet", "dspy", WITH_MINE, None, NotFound, "unknown_operation", "mine.greet"),
    ("mine.greet", "auto", WITH_MINE, "native", NotFound, "unknown_operation", "mine.greet"),
    ("predcit", "auto", BOTH, None, NotFound, "unknown_operation", "did you mean 'predict'?"),
    ("mine.gret", "auto", WITH_MINE, None, NotFound, "unknown_operation", "did you mean 'mine.greet'?"),
    ("zzz", "auto", NOBODY, None, NotFound, "unknown_operation", "there are: cache"),
]


@pytest.mark.parametrize(("operation", "wanted", "offered", "pool", "kind", "code", "told"), REFUSALS)
def test_refusal(
    operation: str, wanted: Any, offered: Catalog, pool: str | None, kind: type[DspexError], code: str, told: str
) -> None:
    with pytest.raises(DspexError) as caught:
        choose(operation, wanted, offered, pool=pool)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert told in caught.value.message


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_runs_where_its_pools_do(operation: str) -> None:
    native, dspy, why, when = OPERATIONS[operation]
    assert why
    assert bool(when) == (native is not None and dspy is not None), "where there is a choice, say when"
    everything = catalog(
        native=tuple(HandlerInfo(name=entry.native) for entry in OPERATIONS.values() if entry.native),
        dspy=tuple(HandlerInfo(name=entry.dspy) for entry in OPERATIONS.values() if entry.dspy),
    )
    choice = choose(operation, "auto", everything)
    assert (choice.handler, choice.pool) == ((native, "native") if native else (dspy, "dspy"))


def test_the_page_shows_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    docs = Path(__file__).parents[3] / "docs"
    monkeypatch.syspath_prepend(docs)
    generate = importlib.import_module("generate")
    assert (docs / "choosing.md").read_text("utf-8") == generate.choosing_page(), "run: make docs"
    assert all(f"| `{name}` |" in generate.choices() for name in OPERATIONS)


def test_a_step_names_its_handler() -> None:
    node = task({"native": "split"}, offered=BOTH)
    assert (node.pool, node.handler, node.implementation) == ("native", "split", "native")
    module = task({"module": "mine:Greeter"}, offered=WITH_MINE)
    assert (module.pool, module.handler, module.implementation) == ("mine", "mine.Greeter", "dspy")


def test_a_call_is_placed() -> None:
    node = task({"call": "predict", "implementation": "dspy", "with": {"signature": "text -> answer"}}, offered=BOTH)
    assert (node.pool, node.handler, node.implementation) == ("dspy", "dspy.Predict", "dspy")


STEPS: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown native handler": ({"native": "splitt"}, "unknown_handler", "did you mean 'split'?"),
    "unknown module": ({"module": "dspy.Predcit"}, "unknown_handler", "did you mean 'dspy.Predict'?"),
    "unknown in its pool": ({"native": "split", "pool": "dspy"}, "unknown_handler", "the pool dspy offers"),
    "unknown operation": ({"call": "divine"}, "unknown_operation", "divine"),
    "no such implementation": ({"call": "react", "implementation": "native"}, "implementation_unavailable", "react"),
}


@pytest.mark.parametrize(("step", "code", "told"), STEPS.values(), ids=STEPS.keys())
def test_a_step_that_cannot_be_placed(step: dict[str, Any], code: str, told: str) -> None:
    error = refused({"native": "split"}, {"parallel": [step]}, offered=BOTH)
    assert isinstance(error, InvalidPipeline)
    assert (error.path, error.code) == ("steps[1].parallel[0]", code)
    assert told in error.message


def test_an_unknown_handler_lists_the_known() -> None:
    error = refused({"native": "nothing_like_it"}, offered=BOTH)
    assert error.details["known"] == ["predict", "split"]
    assert "did you mean" not in error.message


def test_no_workers_is_retryable_and_names_the_step() -> None:
    error = refused({"native": "split"}, {"module": "dspy.Predict"}, offered=catalog(native=(SPLIT,)))
    assert isinstance(error, NoWorkers)
    assert error.retryable
    assert (error.details["path"], error.details["pool"]) == ("steps[1]", "dspy")
    assert error.message.startswith("steps[1]: ")


def test_an_ambiguous_pool_is_settled_by_the_step() -> None:
    error = refused({"native": "mine.greet"}, offered=TWICE)
    assert (error.code, error.details["path"]) == ("ambiguous_pool", "steps[0]")
    assert compiled({"native": "mine.greet", "pool": "b"}, offered=TWICE)
