# Scenario: timeouts and overrides per call, and bad input of several kinds with the error each gets.
# Needs a running system (dspex up).
import asyncio

import dspex

GREET = dspex.pipeline([dspex.native("template", template="Hello {{ name }}", timeout_s=5)], name="greet")


async def main() -> None:
    async with dspex.connect() as dx:
        print((await dx.run(GREET, {"name": "Ada"}, timeout_s=10)).output)

        await refused("a missing field", dx.run(GREET, {}))
        unknown = dspex.pipeline([dspex.native("templat", template="x")])
        await refused("an unknown handler", dx.run(unknown))
        await refused("an unknown pipeline", dx.run("nowhere"))
        await refused("a wrong type", dx.call("template", inputs={"name": "Ada"}, constants={"template": 7}))
        await refused("a bad signature", dx.predict("question -> answer -> more", question="why?"))


async def refused(what: str, call) -> None:
    try:
        await call
    except dspex.DspexError as error:
        print(f"{what}: {error.code}: {error}")
    else:
        raise SystemExit(f"{what} was not refused")


if __name__ == "__main__":
    asyncio.run(main())
