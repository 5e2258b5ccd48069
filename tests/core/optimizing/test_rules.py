"""What optimizers take: conflicts are refused with what to change, and numbers follow DSPy's rules."""

from __future__ import annotations

from typing import Any

import pytest

from dspex_bus.errors import InvalidRequest
from dspex_services.optimizing import OPTIMIZERS, Sizes, check, number_of_trials, optimizer_named


def test_the_seeds_call_is_fine() -> None:
    check("miprov2", {"num_candidates": 20}, Sizes(train=50))
    assert number_of_trials(1, 20) == 30
    assert number_of_trials(2, 20) == 34
    assert number_of_trials(1, 3, zero_shot=True) == 4


def test_names_are_dspys_or_ours() -> None:
    for name, about in OPTIMIZERS.items():
        assert optimizer_named(about.name) == name
        assert optimizer_named(name.upper()) == name
    assert optimizer_named("dspy.MIPROv2") == "miprov2"
    with pytest.raises(InvalidRequest, match="did you mean 'simba'"):
        optimizer_named("simbaa")


@pytest.mark.parametrize(
    ("optimizer", "options", "sizes", "code", "said"),
    [
        ("miprov2", {"auto": "light", "num_candidates": 5}, Sizes(), "conflicting_options", "leave out num_candidates"),
        ("miprov2", {"auto": "light", "num_trials": 5}, Sizes(), "conflicting_options", "leave out num_trials"),
        ("miprov2", {"auto": None}, Sizes(), "conflicting_options", "give num_candidates"),
        ("miprov2", {"num_trials": 5}, Sizes(), "conflicting_options", "give num_candidates"),
        ("miprov2", {"auto": "tiny"}, Sizes(), "invalid_option", "light, medium, heavy"),
        ("miprov2", {"num_candidates": 1}, Sizes(), "invalid_option", "at least 2"),
        ("miprov2", {"num_candidates": True}, Sizes(), "invalid_option", "int"),
        ("miprov2", {"num_candidates": -3}, Sizes(), "invalid_option", "below 0"),
        ("miprov2", {"num_candidate": 3}, Sizes(), "invalid_option", "did you mean 'num_candidates'"),
        ("miprov2", {}, Sizes(train=1), "conflicting_options", "at least 2"),
        ("miprov2", {"minibatch": True}, Sizes(train=20), "conflicting_options", "16 examples"),
        ("gepa", {}, Sizes(), "conflicting_options", "you gave none"),
        ("gepa", {"auto": "light", "max_full_evals": 3}, Sizes(), "conflicting_options", "auto and max_full_evals"),
        ("simba", {"bsize": 10}, Sizes(train=5), "conflicting_options", "5 examples"),
        ("copro", {"breadth": 1}, Sizes(), "invalid_option", "at least 2"),
        ("knn_few_shot", {}, Sizes(), "invalid_option", "'k'"),
        ("ensemble", {}, Sizes(members=1), "conflicting_options", "at least two"),
        ("ensemble", {"size": 4}, Sizes(members=3), "invalid_option", "from 1 to 3"),
        ("bettertogether", {"optimizers": {}, "strategy": "p"}, Sizes(), "conflicting_options", "'p'"),
        (
            "bettertogether",
            {"optimizers": {"p": {"optimizer": "gepa"}}, "strategy": "p -> p"},
            Sizes(),
            "conflicting_options",
            "exactly one",
        ),
        ("labeled_few_shot", {"sample": 1}, Sizes(), "invalid_option", "bool"),
    ],
)
def test_what_does_not_go_together_is_refused(
    optimizer: str, options: dict[str, Any], sizes: Sizes, code: str, said: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check(optimizer, options, sizes)
    assert (refused.value.code, said in refused.value.message) == (code, True), refused.value.message


def test_the_table_is_dspys_own() -> None:
    """Every option is one of the optimizer's constructor or of its ``compile``."""
    import inspect

    dspy = pytest.importorskip("dspy")
    ours = {"bettertogether": {"optimizers"}}
    inherited = {"infer_rules": dspy.BootstrapFewShot, "knn_few_shot": dspy.BootstrapFewShot}
    for name, about in OPTIMIZERS.items():
        kind = getattr(dspy, about.name)
        makers = [kind, inherited[name]] if name in inherited else [kind]
        known = {option for maker in makers for option in inspect.signature(maker.__init__).parameters}
        assert set(about.at_making) - ours.get(name, set()) <= known, name
        assert set(about.at_compile) <= set(inspect.signature(kind.compile).parameters), name
