"""What each optimizer takes, and which options do not go together: refused before anything is spent.

The names and the rules are DSPy's own; here they are data, so that a client knows them without DSPy."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dspex_bus.errors import InvalidRequest

Kind = type | tuple[type, ...]

_NUMBER = (int, float)
_BOOTSTRAP: dict[str, Kind] = {
    "max_bootstrapped_demos": int,
    "max_labeled_demos": int,
    "max_rounds": int,
    "metric_threshold": _NUMBER,
    "max_errors": int,
}
_SEARCH: dict[str, Kind] = {
    "max_bootstrapped_demos": int,
    "max_labeled_demos": int,
    "max_rounds": int,
    "num_candidate_programs": int,
}
AUTO = ("light", "medium", "heavy")


class Sizes(NamedTuple):
    """What a check may know besides the options: how many programs there are, and examples in each set. 0: unknown, or
    none of its own."""

    members: int = 0
    train: int = 0
    val: int = 0


_UNKNOWN = Sizes()

Check = Callable[[dict[str, Any], Sizes], None]


@dataclass(frozen=True)
class Optimizer:
    """``at_making`` are options of its constructor, ``at_compile`` of its ``compile``; where ``seed`` goes is in
    ``seeded``. ``needs`` are options without which it does not run."""

    name: str
    at_making: Mapping[str, Kind]
    at_compile: Mapping[str, Kind] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    teacher: bool = False
    valset: bool = False
    seeded: str = ""
    check: Check | None = None

    @property
    def options(self) -> dict[str, Kind]:
        return {**self.at_making, **self.at_compile}


def number_of_trials(predictors: int, num_candidates: int, *, zero_shot: bool = False) -> int:
    """DSPy's own rule for how many trials a number of candidates is worth."""
    variables = predictors if zero_shot else 2 * predictors
    return int(max(2 * variables * math.log2(num_candidates), 1.5 * num_candidates))


def _mipro(options: dict[str, Any], sizes: Sizes) -> None:
    auto, candidates, trials = (options.get(name) for name in ("auto", "num_candidates", "num_trials"))
    if auto is not None and (candidates is not None or trials is not None):
        given = " and ".join(name for name in ("num_candidates", "num_trials") if options.get(name) is not None)
        raise _conflict(
            f"auto={auto!r} chooses the number of candidates and trials itself: leave out auto, or leave out {given}"
        )
    if "auto" in options and auto is None and candidates is None:
        raise _conflict("auto=None leaves the number of candidates open: give num_candidates, or auto='light'")
    if trials is not None and candidates is None:
        raise _conflict("num_trials alone says too little: give num_candidates as well, or auto='light'")
    if auto is not None and auto not in AUTO:
        raise _invalid("auto", f"auto is one of {', '.join(AUTO)}, not {auto!r}")
    if sizes.train and sizes.train < 2 and not sizes.val:
        raise _conflict("MIPROv2 sets examples aside to score on: give at least 2, or a valset")
    scored = sizes.val or min(1000, max(1, int(0.8 * sizes.train)))
    if options.get("minibatch") and sizes.train and options.get("minibatch_size", 35) > scored:
        raise _conflict(
            f"a minibatch of {options.get('minibatch_size', 35)} is more than the {scored} examples there are to score "
            "on: give a smaller minibatch_size, minibatch=False, or more examples"
        )
    if candidates is not None and candidates < 2:
        raise _invalid("num_candidates", "num_candidates must be at least 2: one is what there is already")


def _gepa(options: dict[str, Any], sizes: Sizes) -> None:
    budgets = ("auto", "max_full_evals", "max_metric_calls")
    given = [name for name in budgets if options.get(name) is not None]
    if len(given) != 1:
        said = f"you gave {' and '.join(given)}" if given else "you gave none"
        raise _conflict(f"GEPA takes exactly one of {', '.join(budgets)}; {said}")
    if options.get("auto") is not None and options["auto"] not in AUTO:
        raise _invalid("auto", f"auto is one of {', '.join(AUTO)}, not {options['auto']!r}")


def _simba(options: dict[str, Any], sizes: Sizes) -> None:
    if sizes.train and options.get("bsize", 0) > sizes.train:
        raise _conflict(f"bsize={options['bsize']} is more than the {sizes.train} examples of the trainset")


def _copro(options: dict[str, Any], sizes: Sizes) -> None:
    if options.get("breadth", 10) < 2:
        raise _invalid("breadth", "breadth must be at least 2")


def _ensemble(options: dict[str, Any], sizes: Sizes) -> None:
    if sizes.members < 2:
        raise _conflict("Ensemble is made of at least two stored programs: programs=['qa@1', 'qa@2']")
    if options.get("size") is not None and not 1 <= options["size"] <= sizes.members:
        raise _invalid("size", f"size must be from 1 to {sizes.members}, the number of programs")


def _together(options: dict[str, Any], sizes: Sizes) -> None:
    inner, strategy = options.get("optimizers", {}), options.get("strategy", "")
    steps = [step.strip() for step in str(strategy).split("->")]
    unknown = [step for step in steps if step not in inner]
    if unknown:
        raise _conflict(
            f"the strategy names {', '.join(map(repr, unknown))}, which optimizers does not have: "
            "optimizers={'p': {'optimizer': 'miprov2', 'num_candidates': 6}}, strategy='p'"
        )
    for name, told in inner.items():
        if not isinstance(told, dict) or "optimizer" not in told:
            raise _invalid("optimizers", f"{name} must say its optimizer: {{'optimizer': 'miprov2', …}}")
        if told["optimizer"] in ("bettertogether", "ensemble", "knn_few_shot"):
            raise _conflict(f"{told['optimizer']} cannot be a part of bettertogether")
        check(told["optimizer"], {key: value for key, value in told.items() if key != "optimizer"}, sizes)


OPTIMIZERS: dict[str, Optimizer] = {
    "miprov2": Optimizer(
        "MIPROv2",
        {
            "auto": (str, type(None)),
            "num_candidates": int,
            "max_bootstrapped_demos": int,
            "max_labeled_demos": int,
            "init_temperature": _NUMBER,
            "metric_threshold": _NUMBER,
            "max_errors": int,
        },
        {
            "num_trials": int,
            "minibatch": bool,
            "minibatch_size": int,
            "minibatch_full_eval_steps": int,
            "program_aware_proposer": bool,
            "data_aware_proposer": bool,
            "view_data_batch_size": int,
            "tip_aware_proposer": bool,
            "fewshot_aware_proposer": bool,
        },
        teacher=True,
        valset=True,
        seeded="making",
        check=_mipro,
    ),
    "gepa": Optimizer(
        "GEPA",
        {
            "auto": str,
            "max_full_evals": int,
            "max_metric_calls": int,
            "reflection_minibatch_size": int,
            "candidate_selection_strategy": str,
            "skip_perfect_score": bool,
            "add_format_failure_as_feedback": bool,
            "component_selector": str,
            "use_merge": bool,
            "max_merge_invocations": int,
            "failure_score": _NUMBER,
            "perfect_score": _NUMBER,
        },
        valset=True,
        seeded="making",
        check=_gepa,
    ),
    "simba": Optimizer(
        "SIMBA",
        {
            "bsize": int,
            "num_candidates": int,
            "max_steps": int,
            "max_demos": int,
            "demo_input_field_maxlen": int,
            "temperature_for_sampling": _NUMBER,
            "temperature_for_candidates": _NUMBER,
        },
        seeded="compile",
        check=_simba,
    ),
    "copro": Optimizer("COPRO", {"breadth": int, "depth": int, "init_temperature": _NUMBER}, check=_copro),
    "bootstrap_few_shot": Optimizer("BootstrapFewShot", _BOOTSTRAP, teacher=True),
    "bootstrap_random_search": Optimizer(
        "BootstrapFewShotWithRandomSearch",
        {**_SEARCH, "metric_threshold": _NUMBER, "max_errors": int, "stop_at_score": _NUMBER},
        {"restrict": list, "labeled_sample": bool},
        teacher=True,
        valset=True,
    ),
    "bootstrap_optuna": Optimizer(
        "BootstrapFewShotWithOptuna",
        _SEARCH,
        {"max_demos": int},
        teacher=True,
        valset=True,
        seeded="sampler",
    ),
    "labeled_few_shot": Optimizer("LabeledFewShot", {"k": int}, {"sample": bool}),
    "knn_few_shot": Optimizer("KNNFewShot", {"k": int, **_BOOTSTRAP}, needs=("k",)),
    "infer_rules": Optimizer(
        "InferRules", {"num_candidates": int, "num_rules": int, **_BOOTSTRAP}, teacher=True, valset=True
    ),
    "ensemble": Optimizer("Ensemble", {"size": int}, check=_ensemble),
    "bettertogether": Optimizer(
        "BetterTogether",
        {"optimizers": dict},
        {"strategy": str, "valset_ratio": _NUMBER, "shuffle_trainset_between_steps": bool},
        needs=("optimizers", "strategy"),
        valset=True,
        seeded="compile",
        check=_together,
    ),
}
"""By the name that jobs give."""

_ALIASES = {"mipro": "miprov2", "bootstrapfewshotwithrandomsearch": "bootstrap_random_search"}
_ALIASES |= {"bootstrapfewshotwithoptuna": "bootstrap_optuna"}


def optimizer_named(name: str) -> str:
    """The name in the table for DSPy's name, or ours in whatever case. Raises InvalidRequest."""
    plain = name.lower().replace("-", "_")
    bare = plain.replace("_", "").removeprefix("dspy.")
    found = {known.replace("_", ""): known for known in OPTIMIZERS} | _ALIASES
    if bare in found:
        return found[bare]
    near = difflib.get_close_matches(plain, OPTIMIZERS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InvalidRequest(
        f"there is no optimizer {name!r}; {hint}there are: {', '.join(OPTIMIZERS)}", code="unknown_optimizer"
    )


def check(optimizer: str, options: Mapping[str, Any], sizes: Sizes = _UNKNOWN) -> None:
    """Raises InvalidRequest (``unknown_optimizer``, ``invalid_option``, ``conflicting_options``) saying what to
    change."""
    about = OPTIMIZERS[optimizer_named(optimizer)]
    for name, value in options.items():
        if name not in about.options:
            near = difflib.get_close_matches(name, about.options, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise _invalid(name, f"{about.name} has no option {name!r}; {hint}there are: {', '.join(about.options)}")
        _check_kind(about.name, name, value, about.options[name])
    for name in about.needs:
        if options.get(name) is None:
            raise _invalid(name, f"{about.name} needs the option {name!r}")
    if about.check is not None:
        about.check(dict(options), sizes)


def _check_kind(who: str, name: str, value: Any, kind: Kind) -> None:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not fits:
        wanted = " or ".join("null" if one is type(None) else one.__name__ for one in kinds)
        raise _invalid(name, f"the option {name!r} of {who} is {wanted}, not {value!r}")
    if isinstance(value, int) and not isinstance(value, bool) and value < 0 and name != "metric_threshold":
        raise _invalid(name, f"the option {name!r} of {who} cannot be below 0")


def _invalid(option: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_option", details={"option": option})


def _conflict(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="conflicting_options")
