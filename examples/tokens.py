# Scenario: progressive streaming in a program: what the model writes, as it comes, and the steps' events among it.
# Needs a running system (dspex up); with a model's key in its environment it uses that model.
import asyncio
import sys

import dspex

pipeline = dspex.pipeline(
    [
        dspex.module("dspy.ChainOfThought", signature="question -> answer", name="think"),
        dspex.call("predict", signature="question, answer -> explanation 'the answer in a sentence'", name="explain"),
    ]
)


async def main(question: str) -> None:
    async with dspex.connect() as dx:
        # A durable run: events and tokens in the order in which they come.
        async for item in dx.stream(pipeline, {"question": question}, tokens=True):
            if not isinstance(item, dspex.TokenEvent):
                print(f"\n-- {item.event.__struct_config__.tag} {item.node}".rstrip())
            elif isinstance(item.message, dspex.TokenPiece):
                print(item.message.text, end="", flush=True)

        # One that is not stored, for interactive work.
        def show(told: dspex.TokenEvent) -> None:
            if isinstance(told.message, dspex.TokenPiece) and told.message.field == "explanation":
                print(told.message.text, end="", flush=True)

        result = await dx.run(pipeline, {"question": question}, durability="none", on_token=show)
        print("\nin full:", (result.output or {})["explanation"])


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "What is 17 plus 25?"))
