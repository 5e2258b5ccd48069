# Scenario: MIPROv2 with a metric of one's own, its progress shown, and the optimized program used by the next run.
# Needs a running system (dspex up). The job outlives this program and its own worker: kill either and start it again.
import asyncio
from pathlib import Path

import dspex

QUESTIONS = Path(__file__).parent / "synthesis.jsonl"
SIGNATURE = "question, passages: list[str] -> answer"


def brief(example, prediction, trace=None):
    """Right, and no longer than it must be. It stays here: the workers ask for it over the bus."""
    right = example.answer.lower() in prediction.answer.lower()
    return right and len(prediction.answer.split()) <= 2 * len(example.answer.split())


def show(progress):
    best = "" if progress.best is None else f", best so far {progress.best:g}"
    print(f"{progress.phase}: {progress.trials} of {progress.of or '?'} trials{best}, {progress.usage.calls} calls")


async def main() -> None:
    async with dspex.connect() as dx:
        module = dspex.module("dspy.ChainOfThought", signature=SIGNATURE)
        found = await dx.optimize(
            module,
            QUESTIONS,
            optimizer="miprov2",
            metric=brief,
            num_candidates=4,
            seed=1,
            program="brief",
            promote="production",
            on_progress=show,
        )
        print(f"{found.program}: {found.baseline:g} before, {found.score:g} now")

        ask = dspex.pipeline(
            [dspex.module("dspy.ChainOfThought", signature=SIGNATURE, program="brief@production")], name="ask"
        )
        passages = ["The okapi lives in the Ituri forest.", "Zebras live on plains."]
        result = await dx.run(ask, {"question": "Where does the okapi live?", "passages": passages})
        print(result.output["answer"])


if __name__ == "__main__":
    asyncio.run(main())
