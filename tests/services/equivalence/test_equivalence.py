"""Each operation with two implementations, asked of both: equal outputs, and the model is told the same to the byte."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import dspy
import pytest

import dspex
from dspex_bus.errors import DspexError
from dspex_bus.signatures import parse_signature
from dspex_router.plan import OPERATIONS
from dspex_services.dspy.signatures import from_dspy

from .conftest import World

pytestmark = pytest.mark.anyio

FACTS = ["The heartbeat is sent every 5 seconds.", "Ada Lovelace designed the pool in 1843.", "A lease lasts 10 s."]
PERSON = "Person{name: str, born: int | None}"
DOCUMENTS = ["The okapi lives in the rainforest of the Congo.", {"text": "A boat floats.", "source": "boats"}]


class Case(NamedTuple):
    operation: str
    constants: dict[str, Any]
    inputs: dict[str, Any]


def predicting(signature: str, /, instructions: str | None = None, demos: Any = (), **inputs: Any) -> list[Case]:
    """A case for each predictor."""
    constants: dict[str, Any] = {"signature": signature}
    if instructions is not None:
        constants["instructions"] = instructions
    if demos:
        constants["demos"] = list(demos)
    return [Case(operation, constants, inputs) for operation in ("predict", "chain_of_thought")]


def answering(question: str, signature: str = "question -> answer", /, **constants: Any) -> list[Case]:
    return [Case("rag", {"signature": signature, **constants}, {"question": question})]


CASES = {
    "a question": predicting("question -> answer", question="What is 17 plus 25?"),
    "with context": predicting("context: list[str], question -> answer", context=FACTS, question="Who designed it?"),
    "instructions": predicting("text -> summary", "Say it in one\n  sentence.", text=" ".join(FACTS)),
    "falsy inputs": predicting("a: int, b: bool, c, d: list[str] -> answer", a=0, b=False, c="", d=[]),
    "inputs that are converted": predicting(
        "a: int, b: bool, day: datetime.date, k: int = 5 -> answer", a="3", b=1, day="2024-05-31"
    ),
    "a struct as an input": predicting(
        f"person: {PERSON}, seen: set[int] -> answer", person={"name": "Ada", "born": "1815"}, seen=[2, 2]
    ),
    "unicode": predicting("frage -> antwort", frage="Wo lebt das Okapi? 森 🦓"),
    "a header in a value": predicting("text -> summary", text="[[ ## answer ## ]]\nnot a section\n"),
    "numbers and truth": predicting("question -> count: int, share: float, holds: bool", question="Is 3 of 4 true?"),
    "a choice": predicting("text -> mood: Literal['good', 'bad', 'neutral']", text="I love this, it is great."),
    "lists and maps": predicting("text -> names: list[str], counts: dict[str, int]", text=" ".join(FACTS)),
    "optional": predicting("text -> year: int | None, note: str | None", text=FACTS[1]),
    "a date": predicting("text -> day: datetime.date", text="It was on 1843-10-18."),
    "a struct": predicting(f"text -> person: {PERSON}, others: list[{PERSON}]", text=FACTS[1]),
    "limits": predicting("text -> score: int[ge=0, le=10], title: str[min_length=2]", text=FACTS[0]),
    "descriptions": predicting("text 'the source, whole' -> title: str 'a few words'", text=FACTS[0]),
    "demos": predicting(
        "question -> answer",
        demos=[{"question": "1+1", "answer": "2"}, {"question": "unanswered"}, {"answer": "alone"}],
        question="What is 2 plus 2?",
    ),
    "typed demos": predicting(
        "text -> names: list[str], n: int", demos=[{"text": "Ann.", "names": ["Ann"], "n": 1}], text=FACTS[1]
    ),
    "rag by words": answering("What happens when a worker dies?", search={"folder": ".", "method": "keyword"}),
    "rag by meaning": answering("Where are provider keys kept?", search={"folder": ".", "method": "vector", "k": 3}),
    "rag by both": answering("Where are provider keys kept?", search={"folder": ".", "fuse": "score"}),
    "rag finds nothing": answering("zyx wvu?", search={"folder": "."}),
    "rag with instructions and demos": answering(
        "What is a pool?",
        "question -> answer, confidence: float",
        instructions="Answer shortly.",
        demos=[
            {"context": ["[a] b"], "question": "b?", "reasoning": "r", "answer": "b", "confidence": 1, "citations": [1]}
        ],
        search={"folder": ".", "k": 2},
    ),
    "rag over documents": [
        Case(
            "rag",
            {"signature": "papers: list, style, topic -> review", "search": {"over": "papers", "query": "topic"}},
            {"papers": DOCUMENTS, "style": "short", "topic": "Where does the okapi live?"},
        )
    ],
    "colbert": [Case("colbert_search", {"k": 2}, {"query": "Where does the okapi live?"})],
}  # fmt: skip
ALL = [pytest.param(case, id=f"{name} {case.operation}") for name, cases in CASES.items() for case in cases]


class Answered(NamedTuple):
    """``told`` is what the model got, call by call."""

    outputs: dict[str, Any]
    told: list[Any]
    implementation: str


async def asked(world: World, case: Case, implementation: Any) -> Answered:
    world.asked.clear()
    made = await world.client.call(
        case.operation, constants=case.constants, inputs=case.inputs, implementation=implementation
    )
    return Answered(dict(made), list(world.asked), made.implementation)


@pytest.mark.parametrize("case", ALL)
async def test_both_tell_the_model_the_same_and_answer_the_same(world: World, case: Case) -> None:
    native, theirs = await asked(world, case, "native"), await asked(world, case, "dspy")
    assert (native.implementation, theirs.implementation) == ("native", "dspy")
    assert native.told == theirs.told
    assert {name: value for name, value in theirs.outputs.items() if name != "hits"} == native.outputs
    assert (await asked(world, case, "auto")).outputs == native.outputs


async def test_colbert_by_post(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSPEX_COLBERT_METHOD", "post")
    case = Case("colbert_search", {}, {"query": "Who lives in the Congo?"})
    native, theirs = await asked(world, case, "native"), await asked(world, case, "dspy")
    assert native.outputs["passages"] == theirs.outputs["passages"]
    assert [passage["title"] for passage in native.outputs["passages"]] == ["Okapi", ""]


@pytest.mark.parametrize("embedder", ["hashed", "openai/offline-extractive"])
async def test_texts_near_to_a_query_in_the_same_order(world: World, embedder: str) -> None:
    """Our search by meaning and ``dspy.Embeddings``, which have their own shapes."""
    query, constants = "Who designed the pool and how long is a lease?", {"embedder": embedder, "k": 3}
    call = world.client.call
    native = await call("vector_search", inputs={"query": query, "documents": FACTS}, constants=constants)
    theirs = await call("dspy.Embeddings", inputs={"query": query, "corpus": FACTS}, constants=constants)
    assert [passage["text"] for passage in native["passages"]] == theirs["passages"][: len(native["passages"])]
    scores = [passage["score"] for passage in native["passages"]]
    assert scores == pytest.approx(theirs["scores"][: len(scores)], abs=1e-3)
    assert len(scores) >= 2


SIGNATURES = (
    "question -> answer",
    "context: list[str], question: str -> answer: str, score: float",
    "a: int, b: bool -> c: dict[str, list[int]], d: Literal['x', 'y, z']",
    "text -> when: datetime.date, who: Optional[str], kind: Union[int, str]",
    "é: str -> ü: tuple[int, ...], \n ß: list | None,",
)


@pytest.mark.parametrize("text", SIGNATURES)
@pytest.mark.parametrize("instructions", [None, "Do it\n  well."])
async def test_a_signature_means_to_us_what_it_means_to_dspy(world: World, text: str, instructions: str | None) -> None:
    theirs = dspy.Signature(text) if instructions is None else dspy.Signature(text, instructions)
    ours = await world.client.call("compile_signature", inputs={"spec": text, "instructions": instructions})
    again = from_dspy(theirs).signature
    assert parse_signature(ours["signature"], ours["instructions"]).input_names == tuple(theirs.input_fields)
    assert list(ours["output_schema"]["properties"]) == list(theirs.output_fields)
    assert (ours["input_schema"], ours["output_schema"]) == (again.input_schema(), again.output_schema())
    assert inspect.cleandoc(ours["instructions"]) == inspect.cleandoc(theirs.instructions)


REPLY = '[[ ## names ## ]]\n["a", "b"]\n\n[[ ## n ## ]]\n3\n\n[[ ## completed ## ]]'


@pytest.mark.parametrize(
    ("layout", "text"),
    [("chat", REPLY), ("json", '{"names": ["a", "b"], "n": 3}'), ("json", 'Here: {"names": ["a", "b"], "n": "3"} ok')],
)
async def test_a_reply_reads_as_dspys_adapters_read_it(world: World, layout: str, text: str) -> None:
    signature = "text -> names: list[str], n: int"
    adapter = dspy.ChatAdapter() if layout == "chat" else dspy.JSONAdapter()
    theirs = adapter.parse(dspy.Signature(signature), text)
    ours = await world.client.call("parse_reply", inputs={"text": text, "signature": signature, "layout": layout})
    assert dict(ours) == theirs == {"names": ["a", "b"], "n": 3}


@pytest.mark.parametrize(
    ("text", "told"),
    [("[[ ## n ## ]]\nseven", "chat layout: `n`: expected int"), ("seven", "JSON layout: `n` is missing")],
)
async def test_what_is_wrong_with_a_reply_in_any_layout_is_told(world: World, text: str, told: str) -> None:
    with pytest.raises(DspexError, match=told):
        await world.client.call("parse_reply", inputs={"text": text, "signature": "text -> n: int"})


def test_every_operation_with_two_implementations_has_a_case() -> None:
    both = {name for name, entry in OPERATIONS.items() if entry.native and entry.dspy}
    assert both == {case.operation for cases in CASES.values() for case in cases}


CHAT = "[[ ## answer ## ]]\n{}\n\n[[ ## completed ## ]]"
REPLIES = {
    "chat": [CHAT.format("blue")],
    "no end": ["[[ ## answer ## ]]\nblue"],
    "prose, then JSON": ["It is blue.", '{"answer": "blue"}'],
    "prose, then JSON in a fence": ["It is blue.", 'Sure:\n```json\n{"answer": "blue"}\n```'],
    "the wrong field, then JSON": ["[[ ## colour ## ]]\nblue", '{"answer": "blue", "colour": "red"}'],
}


@pytest.mark.parametrize("replies", REPLIES.values(), ids=REPLIES)
async def test_both_read_replies_alike_and_ask_once_more_as_json(world: World, replies: list[str]) -> None:
    case = Case("predict", {"signature": "question -> answer"}, {"question": "Which colour?"})
    found = []
    for implementation in ("native", "dspy"):
        world.script = list(replies)
        found.append(await asked(world, case, implementation))
        assert not world.script
    assert found[0].outputs == found[1].outputs == {"answer": "blue"}
    assert found[0].told == found[1].told


FAULTS = {
    "a reply that is nothing of the kind": (
        Case("predict", {"signature": "question -> answer: int"}, {"question": "?"}),
        ["no idea", "none"],
        "reply_malformed",
    ),
    "a value of the wrong type": (
        Case("predict", {"signature": "question -> answer: int"}, {"question": "?"}),
        [CHAT.format("blue"), '{"answer": "blue"}'],
        "reply_malformed",
    ),
    "an input that is missing": (
        Case("predict", {"signature": "question, k: int -> answer"}, {"question": "?"}), [], "invalid_fields"),
    "an input of the wrong type": (
        Case("predict", {"signature": "question, k: int[ge=1] -> answer"}, {"question": "?", "k": 0}), [],
        "invalid_fields"),
    "an input too many": (
        Case("predict", {"signature": "question -> answer"}, {"question": "?", "k": 3}), [], "invalid_fields"),
    "an input that DSPy has a use for": (
        Case("predict", {"signature": "question -> answer"}, {"question": "?", "signature": "q -> a: this"}), [],
        "invalid_fields"),
    "a signature that is none": (Case("predict", {"signature": "q"}, {"q": "?"}), [], "invalid_signature"),
    "no signature": (Case("chain_of_thought", {}, {"question": "?"}), [], "invalid_input"),
    "a folder that is closed": (
        Case("rag", {"signature": "q -> a", "search": {"folder": "/"}}, {"q": "?"}), [], "folder_not_allowed"),
    "rag without a place to look": (
        Case("rag", {"signature": "q -> a", "search": {}}, {"q": "?"}), [], "missing_field"),
    "rag over what is no input": (
        Case("rag", {"signature": "q -> a", "search": {"over": "b"}}, {"q": "?"}), [], "invalid_input"),
    "rag for too many": (
        Case("rag", {"signature": "q -> a", "search": {"folder": ".", "k": 0}}, {"q": "?"}), [], "invalid_input"),
    "rag with passages of its own": (
        Case("rag", {"signature": "q -> a", "search": {"folder": "."}}, {"q": "?", "context": ["no"]}), [],
        "invalid_fields"),
    "rag with a context of its own": (
        Case("rag", {"signature": "context, q -> a", "search": {"folder": "."}}, {"q": "?"}), [], "invalid_signature"),
    "colbert failing": (Case("colbert_search", {}, {"query": "fail"}), [], "search_unavailable"),
    "colbert for too many": (Case("colbert_search", {"k": 101}, {"query": "?"}), [], "invalid_input"),
}  # fmt: skip


@pytest.mark.parametrize(("case", "replies", "code"), FAULTS.values(), ids=FAULTS)
async def test_both_refuse_the_same_with_the_same_code(world: World, case: Case, replies: list[str], code: str) -> None:
    for implementation in ("native", "dspy"):
        world.script = list(replies)
        with pytest.raises(DspexError) as caught:
            await asked(world, case, implementation)
        assert (implementation, caught.value.code) == (implementation, code)
        assert not world.script


async def test_limits_hold_in_both(world: World) -> None:
    case = Case("predict", {"signature": "question -> n: int[ge=10]"}, {"question": "How many?"})
    for implementation, tries in (("native", 2), ("dspy", 1)):
        world.script = ["[[ ## n ## ]]\n3\n\n[[ ## completed ## ]]", '{"n": 3}'][:tries]
        with pytest.raises(DspexError, match="expected at least 10, got 3") as caught:
            await asked(world, case, implementation)
        assert (caught.value.code, caught.value.retryable, world.script) == ("reply_malformed", True, [])


TALKS = {
    "predict": ({"signature": "question -> answer"}, {}),
    "chain_of_thought": ({"signature": "question -> answer"}, {}),
    "rag": ({"signature": "question -> answer", "search": {"folder": ".", "k": 2}}, {}),
    "rag over documents": (
        {"signature": "question, facts: list[str] -> answer", "search": {"over": "facts"}}, {"facts": FACTS}),
}  # fmt: skip


@pytest.mark.parametrize("name", TALKS)
async def test_both_remember_the_same(world: World, name: str) -> None:
    """The second question is asked with the first one and its answer, and without what was looked up for it."""
    constants, more = TALKS[name]
    operation = name.split()[0]
    told = []
    for implementation in ("native", "dspy"):
        step = dspex.call(operation, implementation=implementation, remember=True, **constants)
        thread = f"{name.replace(' ', '_')}_{implementation}"
        world.asked.clear()
        for question in ("Who designed the pool?", "How long is a lease?"):
            inputs = {"question": question, **more}
            await world.client.run(dspex.pipeline([step]), inputs, thread=thread, timeout_s=20)
        told.append(list(world.asked))
        turn = (await world.client.threads.get(thread)).turns[0]
        assert set(turn.fields) >= {"question", "answer"}
        assert not {"context", "passages", "facts"} & set(turn.fields)
    assert told[0] == told[1]
    assert "Who designed the pool?" in str(told[0][1])


async def test_citations_name_passages_that_are_there(world: World) -> None:
    """And the passages come with the answer, in the order of their numbers."""
    case = answering("Where are provider keys kept?", search={"folder": ".", "k": 3})[0]
    for implementation in ("native", "dspy"):
        honest = await asked(world, case, implementation)
        cited = [honest.outputs["passages"][number - 1] for number in honest.outputs["citations"]]
        said = honest.outputs["answer"].split(". ")[0].rstrip(".")
        assert any(said in " ".join(passage["text"].split()) for passage in cited)
        world.script = [
            "[[ ## reasoning ## ]]\nr\n\n[[ ## answer ## ]]\na\n\n[[ ## citations ## ]]\n[3, 99, 0, 1, 3]\n\n"
            "[[ ## completed ## ]]"
        ]
        assert (await asked(world, case, implementation)).outputs["citations"] == [3, 1]
