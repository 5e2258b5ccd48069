# Scenario: approval. A run waits for a person's word, for days if need be; another client sends it as a signal.
# On a running system (dspex up): python examples/approval.py start, then: python examples/approval.py approve SESSION
import asyncio
import sys

import dspex

PUBLISH = dspex.pipeline(
    [
        dspex.native("template", template="Dear {{ name }}, your order has been shipped.", outputs={"text": "draft"}),
        dspex.wait("decision", timeout_s=30 * 86_400, default={"approved": False, "by": "nobody"}),
        dspex.branch(
            ("approved", [dspex.native("template", template="Sent, approved by {{ by }}: {{ draft }}")]),
            otherwise=[dspex.native("template", template="Not sent; {{ by }} approved it.")],
        ),
    ],
    name="publish",
    output=["text"],
    timeout_s=31 * 86_400,
)


async def start(name: str) -> None:
    """Nothing runs while it waits: this program may end, and every part of the system be restarted."""
    async with dspex.connect() as dx:
        session = await dx.submit(PUBLISH, {"name": name})
        print(session.id)


async def approve(id: str, by: str) -> None:
    """The decision is stored once, however often it is sent."""
    async with dspex.connect() as dx:
        session = dx.session(id)
        await session.signal("decision", {"approved": True, "by": by}, id="decision")
        result = await session.result(timeout_s=60)
        print(result.output["text"])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["approve", id, *by]:
            asyncio.run(approve(id, " ".join(by) or "Grace"))
        case ["start", *name]:
            asyncio.run(start(" ".join(name) or "Ada"))
        case _:
            sys.exit("approval.py start [NAME], or approval.py approve SESSION [BY]")
