"""The pipelines under examples/ that are one file each, run with the input that their headers tell of."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest

import dspex

from .conftest import DOCUMENTS
from .processes import ROOT

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "examples"
Output = Mapping[str, Any]

MESSAGES = ["I love it, thanks.", "It is broken and I hate it.", "The parcel came.", "Great, it is perfect."]
ARTICLE = (
    "NATS is a message system. It carries messages between programs. A stream keeps messages on disk. "
    "Cats sleep a lot. Messages in a stream are read by consumers."
)
INVOICES = "\n\n".join(
    [
        "Rent. " + "The rent for May is 700 euros. " * 8,
        "Remarks. " + "Nothing is due for this part of the house. " * 6,
        "Heating. " + "Heating costs 95 euros a month. " * 9,
    ]
)


class Case(NamedTuple):
    inputs: dict[str, Any]
    right: Callable[[Output], bool]


def _answered(output: Output) -> bool:
    return output["answer"] == "Ada Lovelace designed the pool in 1843." and output["sources"] == [2]


def _hopped(output: Output) -> bool:
    """The name that the first hop brought is what the second one found the birthplace by."""
    return "Sclater" in output["next_query"] and "Sclater was born in Basingstoke." in output["passages"][1]


def _cited(output: Output) -> bool:
    cited = " ".join((DOCUMENTS / output["sources"][0]["source"]).read_text("utf-8").split())
    return "fitted on the documents" in output["answer"] and "fitted on the documents" in cited


def _extracted(output: Output) -> bool:
    people, places = ["Ada Lovelace", "Charles Babbage"], ["London"]
    return (output["people"], output["places"], output["day"]) == (people, places, "1833-06-05")


def _typed(output: Output) -> bool:
    ticket = output["ticket"]
    return (ticket["days"], ticket["place"], ticket["kind"]) == (2, "Hall C", "repair") and output["confidence"] <= 1


def _coded(output: Output) -> bool:
    ast.parse(output["code"])
    return bool(output["design"]) and f"```python\n{output['code']}\n```" in output["page"]


def _summarized(output: Output) -> bool:
    told = output["summary"]
    return told.count(".") == 3 and "Cats" not in told and output["gist"] == "NATS is a message system."


def _survived(output: Output) -> bool:
    statuses = [one["status"] for one in output["extracted"]]
    error = output["extracted"][1]["error"]
    return (
        statuses == ["succeeded", "failed", "succeeded"]
        and error["code"] == "reply_malformed"
        and "700.0" in output["report"]
        and "95.0" in output["report"]
        and output["report"].endswith("1 of 3 chunks had none.\n")
    )


CASES = {
    "question_answering.yaml": Case(
        {
            "question": "Who designed the pool?",
            "context": ["The lease lasts 10 seconds.", "Ada Lovelace designed the pool in 1843."],
        },
        _answered,
    ),
    "multi_hop.yaml": Case(
        {
            "question": "Where was the zoologist born that named the okapi?",
            "documents": [
                "The okapi was named by the zoologist Philip Sclater.",
                "Sclater was born in Basingstoke.",
                "A zebra lives on the plains.",
            ],
        },
        _hopped,
    ),
    "rag.yaml": Case({"question": "Which embedder is fitted on the documents?"}, _cited),
    "classify_batch.yaml": Case(
        {"messages": MESSAGES},
        lambda output: (
            output["mood"] == ["positive", "negative", "neutral", "positive"] and output["urgent"] == [False] * 4
        ),
    ),
    "extract_entities.yaml": Case(
        {"text": "Ada Lovelace met Charles Babbage in London on 1833-06-05 and paid 12 pounds."}, _extracted
    ),
    "typed_outputs.yaml": Case({"report": "The pump in Hall C leaks. Repair it within 2 days."}, _typed),
    "generate_code.yaml": Case({"task": "Reverse the words of a sentence."}, _coded),
    "solve_math.yaml": Case(
        {"problem": "What is 12 times 11 minus 32?"},
        lambda output: (output["result"], output["agreed"]) == (100, "yes") and "12 * 11 - 32" in output["reasoning"],
    ),
    "summarize.yaml": Case({"text": ARTICLE}, _summarized),
    "translate.yaml": Case(
        {
            "text": "The pool is full.",
            "german": {"the pool": "das Becken", "is": "ist", "full": "voll"},
            "french": {"the pool": "le bassin", "is": "est", "full": "plein"},
        },
        lambda output: output == {"deutsch": "das Becken ist voll.", "français": "le bassin est plein."},
    ),
    "long_document.yaml": Case({"text": INVOICES}, _survived),
}


@pytest.mark.parametrize("name", CASES)
async def test_it_does_what_its_header_says(client: dspex.Client, name: str) -> None:
    result = await client.run(dspex.load_pipeline(EXAMPLES / name), CASES[name].inputs, timeout_s=30)
    assert result.output is not None
    assert CASES[name].right(result.output), result.output


@pytest.mark.parametrize(
    "path", sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.yaml")]), ids=lambda path: str(path.name)
)
def test_it_begins_with_what_it_shows_and_how_it_is_run(path: Any) -> None:
    first, second = path.read_text("utf-8").splitlines()[:2]
    assert first.startswith("# ")
    assert second.startswith("# ")
    if path.name in CASES:
        assert f"examples/{path.name}" in second
        assert all(f"{field}=" in second for field in CASES[path.name].inputs)
