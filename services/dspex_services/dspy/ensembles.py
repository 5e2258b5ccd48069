"""Modules that ask several times: and keep the best answer, the most common one, or one made of all."""

from __future__ import annotations

from typing import Any

import dspy

from dspex_bus.errors import DspexError
from dspex_bus.signatures import Signature

from ..errors import InvalidInput, StepError
from ..evaluation.metrics import metric_spec, scorer
from ..handlers import Handlers, Step
from .asking import BusAsk
from .given import check_limits, fitted, refuse_taken
from .options import ComparisonOptions, InnerOptions, MajorityInput, ParallelOptions, RewardedOptions
from .programs import Programs, types_of
from .signatures import to_dspy
from .values import plain, typed

_INNER = {"dspy.Predict": "Predict", "dspy.ChainOfThought": "ChainOfThought"}
_COMPLETIONS = "completions"


def ensembles(programs: Programs) -> Handlers:
    """BestOfN, Refine, MultiChainComparison, Parallel and majority."""
    handlers = Handlers()

    @handlers.handler("dspy.BestOfN", reads="signature", implementation="dspy")
    async def best_of_n(options: RewardedOptions, step: Step) -> dict[str, Any]:
        """Several attempts; the first that is good enough, else the best."""
        return await _rewarded(programs, dspy.BestOfN, options, step)

    @handlers.handler("dspy.Refine", reads="signature", implementation="dspy")
    async def refine(options: RewardedOptions, step: Step) -> dict[str, Any]:
        """Several attempts, each told what was wrong with the one before."""
        return await _rewarded(programs, dspy.Refine, options, step)

    @handlers.handler("dspy.MultiChainComparison", reads="signature", implementation="dspy", adds=("rationale",))
    async def compare(options: ComparisonOptions, step: Step) -> dict[str, Any]:
        """One answer made of several attempts at it."""
        return await _compare(programs, options, step)

    @handlers.handler("dspy.Parallel", implementation="dspy")
    async def parallel(options: ParallelOptions, step: Step) -> dict[str, Any]:
        """A module on many examples at once, its predictions in their order.

        Null stands where one failed; ``errors`` says why, by place."""
        module = await programs.ready(_inner(programs, options), options, step)
        many = dspy.Parallel(
            num_threads=options.threads,
            max_errors=options.max_errors,
            disable_progress_bar=True,
            timeout=0,
        )
        return await programs.run(_Each(many, module, options.meant), {"examples": options.examples}, options, step)

    @handlers.handler("dspy.majority", implementation="dspy")
    async def majority(request: MajorityInput) -> dict[str, Any]:
        """The most common of several completions."""
        if not request.completions:
            raise InvalidInput("there are no completions to choose from", details={"field": _COMPLETIONS})
        field = request.field or list(request.completions[0])[-1]
        for place, completion in enumerate(request.completions):
            if field not in completion:
                raise InvalidInput(f"completion {place} has no field {field!r}", details={"field": field})
        return plain(dspy.majority(request.completions, field=field))

    return handlers


class _Each:
    """``dspy.Parallel`` over one module, as a module: its failures by place."""

    def __init__(self, many: Any, module: Any, signature: Signature) -> None:
        self._many = many
        self._module = module
        self._types = types_of(module)
        self._signature = signature

    def named_predictors(self) -> Any:
        """The module's own: they are told of as if it ran alone."""
        return self._module.named_predictors()

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        errors: dict[int, BaseException] = {}

        def one(place: int, example: dict[str, Any]) -> Any:
            try:
                return self._one(example)
            except Exception as error:  # the user's module: it may raise anything
                errors[place] = error
                raise

        try:
            found = self._many([(one, (place, example)) for place, example in enumerate(examples)])
        except Exception as error:  # DSPy gives up, without saying on what
            raise next(iter(errors.values()), error) from error
        return {
            "predictions": [None if prediction is None else plain(prediction) for prediction in found],
            "errors": {str(place): f"{type(error).__name__}: {error}" for place, error in sorted(errors.items())},
        }

    def _one(self, example: dict[str, Any]) -> Any:
        values = fitted(self._module, self._signature, example)
        refuse_taken(self._module, values)
        prediction = self._module(**typed(self._types, values))
        check_limits(self._signature, prediction)
        return prediction


def _inner(programs: Programs, options: InnerOptions) -> Any:
    if options.module not in _INNER:
        raise InvalidInput(f"no module {options.module!r} to run; there are: {', '.join(_INNER)}")
    return programs.copy(_INNER[options.module], options)


async def _rewarded(programs: Programs, kind: Any, options: RewardedOptions, step: Step) -> dict[str, Any]:
    inner = await programs.ready(_inner(programs, options), options, step)
    score = scorer(metric_spec(options.reward), BusAsk(step), programs.functions)
    failed: list[Exception] = []

    def reward(inputs: dict[str, Any], prediction: Any) -> float:
        try:
            return score(dspy.Example(**inputs), prediction, None, None, None).value
        except Exception as error:
            failed.append(error)
            raise

    module = kind(inner, N=options.n, reward_fn=reward, threshold=options.threshold, fail_count=options.fail_count)
    prediction = await programs.predict(module, step.inputs, options, step, options.meant)
    if prediction is None and failed:
        # DSPy takes a reward that raises for a failed attempt, and answers with nothing when all did.
        raise _unscored(failed[-1]) from failed[-1]
    return plain(prediction)


def _unscored(error: Exception) -> DspexError:
    if isinstance(error, DspexError):
        return error
    return StepError(f"the reward raised {type(error).__name__}: {error}", code="metric_failed")


async def _compare(programs: Programs, options: ComparisonOptions, step: Step) -> dict[str, Any]:
    inputs = dict(step.inputs)
    given = inputs.pop(_COMPLETIONS, None)
    meant = options.meant
    asked = Signature(
        tuple(field for field in meant.inputs if field.name != _COMPLETIONS), meant.outputs, meant.instructions
    )
    signature = to_dspy(asked)
    if given is None:
        given = await _attempts(programs, asked, options, inputs, step)
    if len(given) != options.m:
        raise InvalidInput(f"{len(given)} completions are not m={options.m}", details={"field": _COMPLETIONS})
    for place, completion in enumerate(given):
        if not isinstance(completion.get("rationale", completion.get("reasoning")), str):
            raise InvalidInput(
                f"completion {place} has neither rationale nor reasoning", details={"field": _COMPLETIONS}
            )
    module = dspy.MultiChainComparison(signature, M=options.m, temperature=options.temperature)
    module = await programs.ready(module, options, step)
    return await programs.run(module, {_COMPLETIONS: given, **inputs}, options, step, asked)


async def _attempts(
    programs: Programs, signature: Signature, options: ComparisonOptions, inputs: dict[str, Any], step: Step
) -> list[dict[str, Any]]:
    """Chains of thought that the model thinks afresh each time."""
    module = dspy.ChainOfThought(to_dspy(signature), n=options.m, temperature=options.temperature)
    prediction = await programs.predict(module, inputs, options, step, signature)
    return [plain(dict(completion)) for completion in prediction.completions]
