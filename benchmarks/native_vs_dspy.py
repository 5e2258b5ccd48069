"""What DSPy does and what dspex does natively, side by side in one run: CPU for each, and the ratio.

Signatures, prompts and replies are the same on both sides, and the run stops if the results are not equal. Signatures
are parsed anew each time, without the cache. The static text of a prompt is made once for a signature, as in a worker.

    python benchmarks/native_vs_dspy.py [--quick] [--json FILE] [--calls 1000000]
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import cached_path
import dspy
import engine_path
import predict_path
import worker_start
from timing import arguments, report

from dspex_bus.signatures import annotation, parse_signature
from dspex_services.native import chat_messages, parse_chat_reply

SIMPLE = "question -> answer"
TYPED = (
    "question: str, passages: list[str], limit: int -> "
    "answer: str, label: Literal['yes', 'no', 'unsure'], score: Optional[float], sources: list[int], "
    "facts: dict[str, str]"
)
SIMPLE_INPUTS: dict[str, Any] = {"question": "How many tasks does a worker pull?"}
TYPED_INPUTS: dict[str, Any] = {
    "question": "How many tasks does a worker pull?",
    "passages": ["A worker pulls as many tasks as it has free slots.", "A heartbeat is sent every five seconds."],
    "limit": 3,
}
SIMPLE_OUTPUTS: dict[str, Any] = {"answer": "As many as it has free slots."}
TYPED_OUTPUTS: dict[str, Any] = {
    "answer": "As many as it has free slots.",
    "label": "yes",
    "score": 0.75,
    "sources": [1, 2],
    "facts": {"subject": "worker", "object": "tasks"},
}
DEMOS = 16
ROUNDS = 5

NOTES = {
    "signature_parse_speedup": "typed string, no cache on either side; target 60 or more",
    "signature_parse_simple_speedup": "",
    "signature_parse_cached_speedup": "the same string again; target 1,000 or more",
    "format_speedup": f"typed, the least of 0 and {DEMOS} demos; target 20 or more",
    "format_simple_speedup": "no demos",
    "format_typed_speedup": "no demos",
    f"format_{DEMOS}_demos_speedup": "typed",
    "parse_speedup": "a typed reply; target 10 or more",
    "parse_simple_speedup": "",
    **predict_path.NOTES,
    **cached_path.NOTES,
    **worker_start.NOTES,
    **engine_path.NOTES,
}


def microseconds(work: Callable[[], Any], seconds: float) -> float:
    """CPU of one call: the least of several rounds, each long enough for the clock."""
    start = time.process_time()
    work()
    once = max(time.process_time() - start, 1e-7)
    calls = max(3, int(seconds / ROUNDS / once))
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(calls):
            work()
        best = min(best, (time.process_time() - start) / calls)
    return best * 1e6


def compare(name: str, ours: Callable[[], Any], theirs: Callable[[], Any], seconds: float) -> dict[str, float]:
    """The ratio and both costs, after a warm-up."""
    for _ in range(3):
        ours(), theirs()
    gc.collect()
    native, other = microseconds(ours, seconds), microseconds(theirs, seconds)
    return {f"{name}_speedup": other / native, f"{name}_us_native": native, f"{name}_us_dspy": other}


def signatures(seconds: float) -> dict[str, float]:
    parse_anew = parse_signature.__wrapped__
    figures = compare("signature_parse", lambda: parse_anew(TYPED), lambda: dspy.Signature(TYPED), seconds)
    figures |= compare("signature_parse_simple", lambda: parse_anew(SIMPLE), lambda: dspy.Signature(SIMPLE), seconds)
    figures |= compare("signature_parse_cached", lambda: parse_signature(TYPED), lambda: dspy.Signature(TYPED), seconds)
    ours, theirs = parse_signature(TYPED), dspy.Signature(TYPED)
    for field in ours.inputs + ours.outputs:
        same(annotation(field.type, getattr), theirs.fields[field.name].annotation)
    return figures


def prompts(seconds: float) -> dict[str, float]:
    figures = prompt("format_simple", SIMPLE, SIMPLE_INPUTS, [], seconds)
    figures |= prompt("format_typed", TYPED, TYPED_INPUTS, [], seconds)
    demos = [{**TYPED_INPUTS, **TYPED_OUTPUTS, "limit": number} for number in range(DEMOS)]
    figures |= prompt(f"format_{DEMOS}_demos", TYPED, TYPED_INPUTS, demos, seconds)
    least = min(figures["format_typed_speedup"], figures[f"format_{DEMOS}_demos_speedup"])
    return {"format_speedup": least, **figures}


def prompt(
    name: str, text: str, inputs: dict[str, Any], demos: list[dict[str, Any]], seconds: float
) -> dict[str, float]:
    ours, theirs, adapter = parse_signature(text), dspy.Signature(text), dspy.ChatAdapter()
    same(chat_messages(ours, inputs, demos), adapter.format(theirs, demos, inputs))
    return compare(
        name, lambda: chat_messages(ours, inputs, demos), lambda: adapter.format(theirs, demos, inputs), seconds
    )


def replies(seconds: float) -> dict[str, float]:
    figures = reply("parse", TYPED, TYPED_OUTPUTS, seconds)
    return figures | reply("parse_simple", SIMPLE, SIMPLE_OUTPUTS, seconds)


def reply(name: str, text: str, outputs: dict[str, Any], seconds: float) -> dict[str, float]:
    ours, theirs, adapter = parse_signature(text), dspy.Signature(text), dspy.ChatAdapter()
    said = adapter.format_assistant_message_content(theirs, outputs)
    same(parse_chat_reply(ours, said), outputs)
    same(adapter.parse(theirs, said), outputs)
    return compare(name, lambda: parse_chat_reply(ours, said), lambda: adapter.parse(theirs, said), seconds)


def same(ours: object, theirs: object) -> None:
    if ours != theirs:
        raise SystemExit(f"the results differ, so their costs cannot be compared:\n{ours!r}\n{theirs!r}")


def measure(quick: bool, calls: int = 0) -> dict[str, float]:
    """``calls`` is over how many the memory is watched."""
    seconds = 0.3 if quick else 2.0
    figures = signatures(seconds) | prompts(seconds) | replies(seconds) | predict_path.measure(quick)
    figures |= engine_path.measure(quick) | cached_path.measure(quick, calls) | worker_start.measure(quick)
    return {name: figures[name] for name in NOTES} | figures


def main() -> None:
    options = arguments("dspex's native operations against DSPy's own", calls=True)
    report(measure(options.quick, options.calls), options.json, NOTES)


if __name__ == "__main__":
    main()
