"""DSPy's optimizers made of a job's options, and how each is run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dspy
import msgspec
from dspy.teleprompt.gepa.gepa import AUTO_RUN_SETTINGS

from ...evaluation.metrics import MetricSpec, Scorer
from ...optimizing.job import Job, ModuleSpec
from ...optimizing.rules import OPTIMIZERS, number_of_trials, optimizer_named
from ..assembling import NEAREST

_MINIBATCH_FROM = 50
"""DSPy's own: with fewer examples than that to score on, all are used every time."""

_SEED = 9


@dataclass(frozen=True)
class Setting:
    """What an optimizer is given besides its options. ``seed`` None: the optimizer's own."""

    metric: Scorer
    spec: MetricSpec
    threads: int
    prompt_lm: Any
    task_lm: Any
    seed: int | None
    teacher: Any = None

    def score(self, example: Any, prediction: Any, trace: Any = None, *_: Any) -> Any:
        """The metric as optimizers want it: a number, or whether it reaches the threshold where a trace is to be
        kept or not."""
        value = self.metric(example, prediction, trace, None, None).value
        if trace is not None and self.spec.threshold is not None:
            return value >= self.spec.threshold
        return value

    def feedback(
        self, example: Any, prediction: Any, trace: Any = None, name: Any = None, name_trace: Any = None
    ) -> Any:
        """The metric as reflective optimizers want it."""
        score = self.metric(example, prediction, trace, name, name_trace)
        return dspy.Prediction(score=score.value, feedback=score.feedback or f"This got a score of {score.value}.")


@dataclass(frozen=True)
class Made:
    """DSPy's ``optimizer`` and the ``arguments`` of its ``compile`` besides student and examples. ``of`` is how many
    evaluations it will make, ``examples_of`` how many calls of programs, 0 where nobody knows. ``study_seed`` is for
    one that does not seed itself."""

    optimizer: Any
    arguments: dict[str, Any] = field(default_factory=dict)
    of: int = 0
    teacher: Any = None
    uses_valset: bool = False
    lm: Any = None
    study_seed: int | None = None
    examples_of: int = 0

    def run(self, student: Any, train: list[Any], val: list[Any] | None) -> Any:
        """The optimized program. ``val`` None: examples to score on are taken from ``train``, in DSPy's own way."""
        given: dict[str, Any] = {"trainset": train, **self.arguments}
        if self.uses_valset:
            given["valset"] = val
        if self.teacher is not None:
            given["teacher"] = self.teacher
        if self.lm is not None:
            student.set_lm(self.lm)
        if self.study_seed is None:
            return self.optimizer.compile(student, **given)
        with _seeded_studies(self.study_seed):
            return self.optimizer.compile(student, **given)


def make(name: str, options: dict[str, Any], setting: Setting, student: Any, sizes: tuple[int, int]) -> Made:
    """The optimizer with these options, checked before. ``sizes`` are those of trainset and valset."""
    about = OPTIMIZERS[optimizer_named(name)]
    own = {key: value for key, value in options.items() if key in about.at_making}
    arguments = {key: value for key, value in options.items() if key in about.at_compile}
    seed = {} if setting.seed is None else {"seed": setting.seed}
    threads = {"num_threads": setting.threads}
    match about.name:
        case "MIPROv2":
            return _mipro(own, arguments, setting, student, sizes)
        case "BetterTogether":
            return _together(own, arguments, setting, student, sizes)
        case "COPRO":
            evaluating = {**threads, "display_progress": False}
            optimizer = dspy.COPRO(prompt_model=setting.prompt_lm, metric=setting.score, **own)
            of = copro_evaluations(len(student.predictors()), own.get("breadth", 10), own.get("depth", 3))
            return Made(optimizer, {"eval_kwargs": evaluating}, of)
        case "SIMBA":
            own.setdefault("bsize", min(32, sizes[0]))
            optimizer = dspy.SIMBA(metric=setting.score, prompt_model=setting.prompt_lm, **threads, **own)
            steps, candidates = own.get("max_steps", 8), own.get("num_candidates", 6)
            return Made(optimizer, seed, of=steps * (candidates + 1) + min(steps, candidates) + 1)
        case "GEPA":
            optimizer = dspy.GEPA(metric=setting.feedback, reflection_lm=setting.prompt_lm, **threads, **seed, **own)
            return Made(optimizer, examples_of=_metric_calls(optimizer, student, sizes), uses_valset=True)
        case "LabeledFewShot":
            return Made(dspy.LabeledFewShot(**own), arguments)
    return _bootstrap(about.name, own, arguments, setting)


def _mipro(
    own: dict[str, Any], arguments: dict[str, Any], setting: Setting, student: Any, sizes: tuple[int, int]
) -> Made:
    """A number of candidates alone means no automatic setting, and as many trials as DSPy's rule says."""
    candidates = own.get("num_candidates")
    own.setdefault("auto", None if candidates is not None else "light")
    zero_shot = own.get("max_bootstrapped_demos", 4) == own.get("max_labeled_demos", 4) == 0
    of = 0
    if own["auto"] is None:
        rule = number_of_trials(len(student.predictors()), candidates or 2, zero_shot=zero_shot)
        trials = arguments.setdefault("num_trials", rule)
        scored = sizes[1] or min(1000, max(1, int(0.8 * sizes[0])))
        minibatch = arguments.setdefault(
            "minibatch", scored > max(_MINIBATCH_FROM, arguments.get("minibatch_size", 35))
        )
        every = arguments.get("minibatch_full_eval_steps", 5)
        of = 1 + trials + (trials // every + (1 if trials % every else 0) if minibatch else 0)
    if setting.seed is not None:
        own["seed"] = setting.seed
    optimizer = dspy.MIPROv2(
        metric=setting.score,
        prompt_model=setting.prompt_lm,
        task_model=setting.task_lm,
        num_threads=setting.threads,
        **own,
    )
    return Made(optimizer, arguments, of, setting.teacher, uses_valset=True)


def copro_evaluations(predictors: int, breadth: int, depth: int) -> int:
    """Each of so many instructions, and as many again at each further depth. With several predictors a change of one
    may make another's best worse, and DSPy tries those of the depths before once more."""
    return breadth * depth if predictors == 1 else predictors * breadth * depth * (depth + 1) // 2


def _metric_calls(optimizer: Any, student: Any, sizes: tuple[int, int]) -> int:
    """GEPA's budget, as its ``compile`` makes it of the option that was given. It stops at the end of the round in
    which that is spent."""
    train, val = sizes
    if optimizer.auto is not None:
        candidates = AUTO_RUN_SETTINGS[optimizer.auto]["n"]
        return int(optimizer.auto_budget(len(student.predictors()), candidates, val or train))
    if optimizer.max_full_evals is not None:
        return int(optimizer.max_full_evals * (train + val))
    return int(optimizer.max_metric_calls)


def _bootstrap(name: str, own: dict[str, Any], arguments: dict[str, Any], setting: Setting) -> Made:
    """BootstrapFewShot and what searches among its results."""
    if name == "BootstrapFewShot":
        return Made(dspy.BootstrapFewShot(metric=setting.score, **own), arguments, teacher=setting.teacher)
    candidates = own.get("num_candidate_programs", 16)
    of = {"BootstrapFewShotWithRandomSearch": candidates + 3, "BootstrapFewShotWithOptuna": candidates}.get(
        name, own.get("num_candidates", 10)
    )
    optimizer = getattr(dspy, name)(metric=setting.score, num_threads=setting.threads, **own)
    study_seed = None
    if name == "BootstrapFewShotWithOptuna":
        arguments.setdefault("max_demos", own.get("max_bootstrapped_demos", 4))
        study_seed = setting.seed if setting.seed is not None else _SEED
    return Made(optimizer, arguments, of, setting.teacher, uses_valset=True, study_seed=study_seed)


def _together(
    own: dict[str, Any], arguments: dict[str, Any], setting: Setting, student: Any, sizes: tuple[int, int]
) -> Made:
    parts = {}
    for key, told in own["optimizers"].items():
        options = {name: value for name, value in told.items() if name != "optimizer"}
        parts[key] = make(told["optimizer"], options, setting, student, sizes)
    optimizer = dspy.BetterTogether(metric=setting.score, **{key: part.optimizer for key, part in parts.items()})
    steps = [step.strip() for step in arguments["strategy"].split("->")]
    arguments = {
        **arguments,
        "strategy": " -> ".join(steps),
        "num_threads": setting.threads,
        "optimizer_compile_args": {key: part.arguments for key, part in parts.items()},
    }
    if setting.seed is not None:
        arguments["seed"] = setting.seed
    return Made(optimizer, arguments, teacher=setting.teacher, uses_valset=True, lm=setting.task_lm)


@contextmanager
def _seeded_studies(seed: int) -> Iterator[None]:
    """DSPy starts this study without a seed; another start of the job would try other things, and pay for them."""
    import optuna

    made = optuna.create_study

    def seeded(**given: Any) -> Any:
        return made(sampler=optuna.samplers.TPESampler(seed=seed), **given)

    optuna.create_study = seeded
    try:
        yield
    finally:
        optuna.create_study = made


def examples(rows: Sequence[dict[str, Any]], inputs: Sequence[str]) -> list[Any]:
    return [dspy.Example(**row).with_inputs(*inputs) for row in rows]


def quietly() -> None:
    """DSPy tells its progress on the console; ours goes over the bus."""
    logging.getLogger("dspy").setLevel(logging.ERROR)


ASSEMBLED = ("ensemble", "knn_few_shot")
"""Optimizers that put programs together and change none."""


def result_spec(job: Job) -> ModuleSpec:
    """What the result is a program of: the job's own module, but for one that is put around it."""
    if optimizer_named(job.optimizer) != "knn_few_shot":
        return job.module
    bootstrap = {name: value for name, value in job.options.items() if name != "k"}
    options: dict[str, Any] = {
        "inner": msgspec.to_builtins(job.module),
        "trainset": job.trainset,
        "inputs": list(job.inputs),
        "k": job.options["k"],
        "bootstrap": bootstrap,
        "metric": job.metric.name,
    }
    return ModuleSpec(module=NEAREST, options=options)
