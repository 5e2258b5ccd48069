"""Programs made of programs: several that vote, and one that takes its demos from the nearest examples.

An optimizer that changes no prompt makes these. What they consist of is in the origin's options, so that any worker can
put them together again: ``dspy.Ensemble`` of ``members``, ``dspy.KNNFewShot`` around ``inner``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspy

from dspex_bus import Bus

from ..errors import InvalidInput
from ..evaluation.builtin import COMPARISONS, compare_fields
from ..evaluation.metrics import labels
from ..evaluation.stored import stored_dataset
from ..offline_lm.embedding import embed
from ..programs import Origin
from .programs import Programs
from .values import plain

ENSEMBLE = "dspy.Ensemble"
NEAREST = "dspy.KNNFewShot"


async def assembled(programs: Programs, bus: Bus, origin: Origin) -> Any:
    """A new module as the program was made of, before its state. Raises InvalidInput or NotFound."""
    options = origin.options
    if origin.module == ENSEMBLE:
        members = [await assembled(programs, bus, _origin(member)) for member in options.get("members", ())]
        if not members:
            raise InvalidInput("the ensemble has no members", code="invalid_program")
        return Ensemble(members, options.get("size"))
    if origin.module == NEAREST:
        inner = await assembled(programs, bus, _origin(options["inner"]))
        dataset = await stored_dataset(bus, str(options["trainset"]))
        trainset = [dspy.Example(**row).with_inputs(*options["inputs"]) for row in dataset.rows]
        return Nearest(inner, trainset, options)
    return programs.made(origin)


class Ensemble(dspy.Module):  # type: ignore[misc]
    """The most common answer of its members, by the last field; of ``size`` of them, drawn anew each time."""

    def __init__(self, members: list[Any], size: int | None) -> None:
        super().__init__()
        self.voting = dspy.Ensemble(reduce_fn=dspy.majority, size=size).compile(members)

    @property
    def like(self) -> Any:
        """A member: it is asked the same."""
        return self.voting.programs[0]

    def forward(self, **inputs: Any) -> Any:
        return self.voting(**inputs)


class Nearest(dspy.Module):  # type: ignore[misc]
    """Bootstraps demos from the examples nearest to each question: words hashed to a vector say which are near."""

    def __init__(self, inner: Any, trainset: list[Any], options: Mapping[str, Any]) -> None:
        super().__init__()
        self.inner = inner
        bootstrap = dict(options.get("bootstrap", {}))
        if (name := options.get("metric")) is not None:
            bootstrap["metric"] = _metric(str(name))
        vectorizer = dspy.Embedder(lambda texts: [embed(text) for text in texts], caching=False)
        k = min(int(options["k"]), len(trainset))
        self._optimizer = dspy.KNNFewShot(k=k, trainset=trainset, vectorizer=vectorizer, **bootstrap)

    @property
    def like(self) -> Any:
        return self.inner

    def forward(self, **inputs: Any) -> Any:
        return self._optimizer.compile(self.inner)(**inputs)


def _metric(name: str) -> Any:
    def score(example: Any, prediction: Any, trace: Any = None) -> float:
        return compare_fields(COMPARISONS[name], labels(example), plain(prediction), None)[0]

    return score


def _origin(said: Mapping[str, Any]) -> Origin:
    return Origin(
        module=str(said["module"]),
        signature=said.get("signature"),
        instructions=said.get("instructions"),
        options=dict(said.get("options", {})),
    )
