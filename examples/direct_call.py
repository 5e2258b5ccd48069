# Scenario: a direct LM call, bypassing signatures. Messages in; text, tool calls and usage out; a budget for the calls.
# Needs a running system (dspex up); with a model's key in its environment it uses that model.
import asyncio
import sys

import dspex

WEATHER = {
    "name": "weather",
    "description": "The weather in a city now.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def main(prompt: str) -> None:
    async with dspex.connect() as dx:
        reply = await dx.lm(prompt, config={"system": "Answer in one short sentence.", "max_tokens": 200})
        used = reply.usage
        print(f"{reply.text}\n  {used.calls} call, {used.input_tokens} tokens in, {used.output_tokens} out")

        follow_up = [{"role": "user", "content": prompt}, reply.message, {"role": "user", "content": "Say it again."}]
        again = await dx.lm(follow_up, tools=[WEATHER], budget=dspex.Budget(tokens=2000))
        print(again.text or [(call["name"], call["arguments"]) for call in again.tool_calls])

        try:
            await dx.lm(prompt, budget=dspex.Budget(tokens=0))
        except dspex.DspexError as error:
            print(f"{error.code}: {error.message}")


if __name__ == "__main__":
    asyncio.run(main(" ".join(sys.argv[1:]) or "What is 17 plus 25?"))
