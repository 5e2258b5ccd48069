# Scenario: the program of the README. A native step, then a DSPy module and a native one side by side, in one session.
# Needs a running system (dspex up); with a model's key in its environment it uses that model.
import asyncio

import dspex

sums = dspex.pipeline(
    [
        dspex.native("template", template="What is {{ a }} plus {{ b }}?", outputs={"text": "question"}),
        dspex.parallel(
            [
                dspex.module("dspy.ChainOfThought", signature="question -> answer"),
                dspex.native("template", template="asked: {{ question }}"),
            ]
        ),
    ],
    output=["answer", "text"],
)


async def main() -> None:
    async with dspex.connect() as dx:
        print((await dx.run(sums, {"a": 17, "b": 25})).output)


asyncio.run(main())
