# Scenario: simple use. A signature, then predict; the answer says which implementation ran.
# Needs a running system (dspex up); with a model's key in its environment it uses that model.
import asyncio
import sys

import dspex


async def main(question: str) -> None:
    signature = dspex.signature("question -> answer", "Answer in one short sentence.")
    async with dspex.connect() as dx:
        answer = await dx.predict(signature, {"question": question})
        print(f"{answer.answer}\n  ran: {answer.handler}, {answer.implementation}, in pool {answer.pool}")

        thought = await dx.chain_of_thought(signature, implementation="dspy")(question=question)
        print(f"{thought.answer}\n  ran: {thought.handler}, {thought.implementation}, in pool {thought.pool}")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "What is 17 plus 25?"))
