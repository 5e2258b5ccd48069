"""Searching documents: by words, by meaning with each embedder, both; folders that change, links, bad requests."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("usearch")

from native_rig import make_step, outputs_of, serving

from dspex_bus import MemoryBus
from dspex_bus.errors import DspexError
from dspex_bus.streams import buckets, streams
from dspex_services.cache import Cache
from dspex_services.handlers import Handlers, Step
from dspex_services.lm import Configured, EmbeddingClients
from dspex_services.native.retrieval.documents import Folder, Given
from dspex_services.native.retrieval.embedders import LatentSemantic
from dspex_services.native.retrieval.library import Library, Manner
from dspex_services.native.retrieval.merging import blend, fuse
from dspex_services.native.retrieval.passages import Passage, chunks
from dspex_services.native.retrieval.services import SearchClient
from dspex_services.native.retrieval.vector import VectorIndex
from dspex_services.native.searching import searches
from dspex_services.offline_lm import OfflineLM, embed

pytestmark = pytest.mark.anyio

DOCUMENTS = {
    "animals.md": "# Okapis\n\nThe okapi lives in the rainforest of the Congo. It eats leaves.\n",
    "boats.md": "# Boats\n\nA boat floats on water. Sails catch the wind.\n\n# Oars\n\nAn oar moves a boat by hand.\n",
    "bread.txt": "Bake the loaf at 240 degrees for twenty minutes. Flour, water, salt and yeast make bread.\n",
    "ветер.md": "# Ветер\n\nВетер дует с моря, и парус надувается.\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    opened = tmp_path / "opened"
    opened.mkdir()
    for name, text in DOCUMENTS.items():
        (opened / name).write_text(text)
    monkeypatch.setenv("DSPEX_DOCUMENTS", str(opened))
    return opened


@pytest.fixture
async def clients() -> AsyncIterator[EmbeddingClients]:
    async with OfflineLM() as lm:
        clients = EmbeddingClients(Configured({"DSPEX_BASE_URL": lm.base_url}))
        yield clients
        await clients.close()


@pytest.fixture
def library(clients: EmbeddingClients) -> Library:
    return Library(clients)


@pytest.fixture
async def handlers(library: Library) -> AsyncIterator[Handlers]:
    found = searches(library, SearchClient({}))
    yield found
    await found.close()


async def ask(handlers: Handlers, name: str, /, **values: Any) -> Any:
    return await outputs_of(handlers, name, make_step(inputs=values))


WAYS = [
    ("keyword_search", {}),
    ("vector_search", {}),
    ("vector_search", {"embedder": "hashed"}),
    ("vector_search", {"embedder": "openai/offline-extractive"}),
    ("hybrid_search", {}),
    ("hybrid_search", {"fuse": "score", "weight": 0.3, "embedder": "hashed"}),
]


@pytest.mark.parametrize(("name", "options"), WAYS)
async def test_every_search_finds_the_passage_and_answers_alike(
    handlers: Handlers, folder: Path, name: str, options: dict[str, Any]
) -> None:
    found = await ask(handlers, name, folder=".", query="Where does the okapi live?", k=2, **options)
    best = found["passages"][0]
    assert set(best) == {"id", "text", "source", "title", "score"}
    assert (best["id"], best["source"], best["title"]) == ("animals.md#0", "animals.md", "Okapis")
    assert best["score"] > 0
    assert len(found["passages"]) <= 2
    several = await ask(handlers, name, folder=".", queries=["okapi leaves", "bake a loaf"], k=2, **options)
    assert {passage["source"] for passage in several["passages"]} == {"animals.md", "bread.txt"}


async def test_documents_of_the_request(handlers: Handlers) -> None:
    documents = ["The okapi eats leaves.", {"text": "A boat floats.", "source": "b", "title": "Boats"}, {"text": ""}]
    for name, options in WAYS:
        found = await ask(handlers, name, documents=documents, query="boat", k=1, **options)
        assert [(p["source"], p["title"], p["text"]) for p in found["passages"]] == [("b", "Boats", "A boat floats.")]
    twice = [{"text": "a boat", "source": "same"}, {"text": "another boat", "source": "same"}]
    found = await ask(handlers, "keyword_search", documents=twice, query="boat")
    assert sorted(passage["id"] for passage in found["passages"]) == ["same#0", "same#1"]


async def test_words_of_any_script(handlers: Handlers, folder: Path) -> None:
    for name in ("keyword_search", "vector_search", "hybrid_search"):
        found = await ask(handlers, name, folder=".", query="парус и ветер", k=1)
        assert found["passages"][0]["source"] == "ветер.md"


async def test_scripts_without_blanks(handlers: Handlers) -> None:
    documents = ["オカピはコンゴの熱帯雨林に住んでいる。", "船は水に浮かぶ。帆は風を受ける。", "長い文章。" * 200]
    for name in ("keyword_search", "vector_search", "hybrid_search"):
        found = await ask(handlers, name, documents=documents, query="オカピはどこに住んでいるか", k=1)
        assert found["passages"][0]["source"] == "1"
    passages = Given(documents).load()
    assert max(len(passage.text) for passage in passages) <= 320
    assert "".join(passage.text for passage in passages if passage.source == "3").replace("\n", "") == documents[2]


async def test_nothing_like_it_finds_nothing(handlers: Handlers, folder: Path) -> None:
    for name in ("keyword_search", "vector_search", "hybrid_search"):
        assert (await ask(handlers, name, folder=".", query="zyx wvu"))["passages"] == []


@pytest.mark.parametrize("documents", [[], [""], ["  \n"], [{"text": ""}]])
async def test_no_documents_are_no_passages(handlers: Handlers, documents: list[Any]) -> None:
    for name in ("keyword_search", "vector_search", "hybrid_search"):
        assert (await ask(handlers, name, documents=documents, query="boats"))["passages"] == []
    assert (await ask(handlers, "vector_search", documents=documents, query="boats", embedder="hashed"))[
        "passages"
    ] == []


BAD = [
    ({"query": "x", "folder": ".", "k": 0}, "invalid_input", r">= 1 - at `\$.k`"),
    ({"query": "x", "folder": ".", "k": 101}, "invalid_input", r"<= 100 - at `\$.k`"),
    ({"query": "x", "folder": ".", "k": "many"}, "invalid_input", r"Expected `int`, got `str` - at `\$.k`"),
    ({"folder": "."}, "missing_field", "'query', or 'queries'"),
    ({"query": "  ", "folder": "."}, "invalid_input", "empty"),
    ({"query": "x"}, "missing_field", "'folder', or 'documents'"),
    ({"query": "x", "folder": ".", "documents": ["a"]}, "missing_field", "not both"),
    ({"query": "x", "folder": "nowhere"}, "folder_not_found", "nowhere"),
    ({"query": "x", "folder": "boats.md"}, "folder_not_found", "is a file"),
    ({"query": "x", "folder": "a\0b"}, "folder_not_found", "a"),
    ({"query": "x", "folder": ".."}, "folder_not_allowed", "DSPEX_DOCUMENTS"),
    ({"query": "x", "folder": "/"}, "folder_not_allowed", "DSPEX_DOCUMENTS"),
    ({"query": "x", "folder": ".", "embedder": "word2vec"}, "unknown_embedder", "latent, hashed"),
    ({"query": "x", "folder": ".", "embedder": "openai/m", "weight": 2.0}, "invalid_input", r"at `\$.weight`"),
]


@pytest.mark.parametrize(("values", "code", "told"), BAD)
async def test_bad_requests(handlers: Handlers, folder: Path, values: dict[str, Any], code: str, told: str) -> None:
    with pytest.raises(DspexError, match=told) as caught:
        await ask(handlers, "hybrid_search", **values)
    assert caught.value.code == code


async def test_links_out_of_the_opened_folder_are_refused(handlers: Handlers, folder: Path) -> None:
    secret = folder.parent / "secret.md"
    secret.write_text("The password is okapi.")
    (folder.parent / "others").mkdir()
    (folder.parent / "others" / "more.md").write_text("An okapi elsewhere.")
    (folder / "within.md").symlink_to(folder / "boats.md")
    (folder / "linked").symlink_to(folder.parent / "others")
    found = await ask(handlers, "keyword_search", folder=".", query="okapi boat", k=50)
    assert {passage["source"] for passage in found["passages"]} == {"animals.md", "boats.md", "within.md"}
    with pytest.raises(DspexError, match="outside") as caught:
        await ask(handlers, "keyword_search", folder="linked", query="okapi")
    assert caught.value.code == "folder_not_allowed"
    (folder / "leak.md").symlink_to(secret)
    with pytest.raises(DspexError, match=r"leak\.md is a link that leads out") as caught:
        await ask(handlers, "keyword_search", folder=".", query="password")
    assert caught.value.code == "folder_not_allowed"


async def test_a_document_that_cannot_be_read_is_named_without_its_place(handlers: Handlers, folder: Path) -> None:
    (folder / "binary.txt").write_bytes(b"okapi \xff\xfe")
    with pytest.raises(DspexError, match=r"binary\.txt cannot be read as UTF-8") as caught:
        await ask(handlers, "keyword_search", folder=".", query="okapi")
    assert caught.value.code == "document_unreadable"
    assert str(folder) not in caught.value.message


async def test_a_document_that_vanishes_while_it_is_read_is_left_out(
    handlers: Handlers, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text

    def vanishing(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "boats.md":
            path.unlink()
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", vanishing)
    found = await ask(handlers, "keyword_search", folder=".", query="okapi boat")
    assert {passage["source"] for passage in found["passages"]} == {"animals.md"}


async def test_a_change_is_found_and_only_what_is_new_is_embedded(folder: Path) -> None:
    asked: list[str] = []

    async def answer(request: Any) -> Any:
        texts = (await request.json())["input"]
        asked.extend(texts)
        data = [{"index": place, "embedding": embed(text)} for place, text in enumerate(texts)]
        return {"data": data[::-1], "model": "m", "usage": {"prompt_tokens": 7}}

    async with serving(answer) as url:
        clients = EmbeddingClients(Configured({"DSPEX_BASE_URL": url}))
        library, manner, step = Library(clients), Manner(method="vector", embedder="openai/m"), make_step()

        async def best(query: str) -> str:
            return (await library.search(Folder("."), [query], 1, manner, step))[0].source

        assert await best("okapi") == "animals.md"
        assert (step.usage.calls, step.usage.input_tokens, step.usage.model) == (2, 14, "m")
        asked.clear()
        (folder / "trains.md").write_text("# Trains\n\nA train runs on rails.\n")
        assert await best("rails for trains") == "trains.md"
        assert asked == ["Trains\nA train runs on rails.", "rails for trains"]
        (folder / "trains.md").unlink()
        assert await best("a boat on water") == "boats.md"
        assert asked[2:] == ["a boat on water"]
        await clients.close()


async def test_vectors_are_kept_where_the_operator_says_so(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second worker with the same cache asks the model for nothing that the first has asked."""
    asked: list[str] = []

    async def answer(request: Any) -> Any:
        texts = (await request.json())["input"]
        asked.extend(texts)
        return {"data": [{"index": place, "embedding": embed(text)} for place, text in enumerate(texts)], "model": "m"}

    table = tmp_path / "models.yaml"
    table.write_text('"openai/kept": {cache_s: 60}')
    async with serving(answer) as url, MemoryBus() as bus:
        await bus.prepare(streams(), buckets())
        found = []
        for _ in range(2):
            environment = {"DSPEX_BASE_URL": url, "DSPEX_MODELS": str(table)}
            clients = EmbeddingClients(Configured(environment))
            async with Cache(bus) as cache:
                step = make_step(bus, cache=cache)
                for model in ("openai/kept", "openai/other"):
                    manner = Manner(method="vector", embedder=model)
                    found.append(await Library(clients).search(Folder("."), ["okapi"], 2, manner, step))
            await clients.close()
        assert found[0] == found[1] == found[2] == found[3]
        assert (step.usage.saved_calls, step.usage.calls) == (2, 2)
        assert len(asked) == 3 * (1 + len(Folder(".").load()))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"data": []}, "lm_bad_reply"),
        ({"data": [{"index": 0, "embedding": [1.0]}]}, "lm_bad_reply"),
        ({"data": "none"}, "lm_bad_reply"),
        ({"data": [{"index": n, "embedding": [1.0] * (1 + n)} for n in range(5)]}, "lm_bad_reply"),
    ],
)
async def test_embeddings_that_cannot_be(folder: Path, tmp_path: Path, answer: Any, code: str, step: Step) -> None:
    async def respond(_: Any) -> Any:
        return answer

    table = tmp_path / "models.yaml"
    table.write_text('"*": {max_attempts: 1}')
    async with serving(respond) as url:
        clients = EmbeddingClients(Configured({"DSPEX_BASE_URL": url, "DSPEX_MODELS": str(table)}))
        with pytest.raises(DspexError) as caught:
            await Library(clients).search(Folder("."), ["x"], 1, Manner(method="vector", embedder="openai/m"), step)
        assert caught.value.code == code
        await clients.close()


class Slow:
    """A corpus that takes its time, and counts."""

    def __init__(self, name: str, gate: asyncio.Event) -> None:
        self.key = name
        self.gate = gate
        self.loads = 0

    def state(self) -> str:
        return ""

    def load(self) -> list[Passage]:
        self.loads += 1
        deadline = time.monotonic() + 10
        while not self.gate.is_set():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        return Given(["an okapi"]).load()


async def test_a_build_is_awaited_by_its_own_users_alone(library: Library, step: Step) -> None:
    gate = asyncio.Event()
    slow, manner = Slow("slow", gate), Manner(method="keyword")
    waiting = [asyncio.create_task(library.search(slow, ["okapi"], 1, manner, step)) for _ in range(3)]
    quick = Given(["an okapi in the rain"])
    async with asyncio.timeout(10):
        assert len(await library.search(quick, ["rain"], 1, manner, step)) == 1
        assert not any(task.done() for task in waiting)
        gate.set()
        assert [len(found) for found in await asyncio.gather(*waiting)] == [1, 1, 1]
    assert slow.loads == 1


async def test_a_build_outlives_the_step_that_began_it(library: Library, step: Step) -> None:
    """One that takes longer than a step has time would otherwise never end."""
    gate = asyncio.Event()
    slow, manner = Slow("slow", gate), Manner(method="keyword")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await library.search(slow, ["okapi"], 1, manner, step)
    again = asyncio.create_task(library.search(slow, ["okapi"], 1, manner, step))
    await asyncio.sleep(0)
    gate.set()
    assert len(await asyncio.wait_for(again, 10)) == 1
    assert slow.loads == 1


async def test_what_fails_for_one_is_tried_by_the_next(library: Library, step: Step) -> None:
    class Failing(Slow):
        def load(self) -> list[Passage]:
            if not super().load() or self.loads == 1:
                raise ValueError("the first time")
            return Given(["an okapi"]).load()

    gate = asyncio.Event()
    failing, manner = Failing("failing", gate), Manner(method="keyword")
    both = [asyncio.create_task(library.search(failing, ["okapi"], 1, manner, step)) for _ in range(2)]
    async with asyncio.timeout(10):
        while not failing.loads:
            await asyncio.sleep(0.001)
        gate.set()
        first, second = await asyncio.gather(*both, return_exceptions=True)
    assert {type(first), type(second)} == {ValueError, list}


def test_the_graph_finds_what_comparing_all_finds() -> None:
    made = numpy.random.default_rng(7).normal(size=(600, 32)).astype("float32")
    passages = [Passage(id=str(place), text="", source="") for place in range(600)]
    exact, graph = VectorIndex(passages, made), VectorIndex(passages, made, exact=0)
    hits = 0
    for vector in made[:40] + 0.2:
        wanted = {passage.id for passage in exact.search(vector, 10)}
        hits += len(wanted & {passage.id for passage in graph.search(vector, 10)})
    assert hits >= 0.95 * 400
    assert exact.search(made[3], 1)[0].score == pytest.approx(1, abs=1e-3)
    assert exact.search(numpy.zeros(32, "float32"), 3) == []


@pytest.mark.parametrize("texts", [["the of and"], ["one word", "one word"], ["a"], ["alpha beta", "gamma"]])
def test_the_fitted_embedder_takes_any_texts(texts: list[str]) -> None:
    model = LatentSemantic()
    fitted = model.fit(texts)
    assert len(fitted) == len(texts)
    assert model.embed(["beta", "nothing known"]).shape == (2, fitted.shape[1])


def passage(name: str, score: float) -> Passage:
    return Passage(id=name, text=name, source=name, score=score)


def test_merging_by_rank_and_by_score() -> None:
    words = [passage("a", 9.0), passage("b", 1.0)]
    meaning = [passage("c", 0.9), passage("b", 0.7), passage("a", 0.1)]
    assert [p.id for p in fuse([words, meaning], 9)] == ["a", "b", "c"]
    assert [p.id for p in fuse([words, meaning], 1, (0.0, 1.0))] == ["c"]
    assert [p.id for p in blend([words, meaning], 9, (0.5, 0.5))] == ["a", "c", "b"]
    assert [p.id for p in blend([words, meaning], 2, (1.0, 0.0))] == ["a", "b"]
    assert fuse([[], []], 3) == blend([[], []], 3) == []


def test_a_long_text_is_cut_without_loss() -> None:
    text = "One two three. Four five six seven.\n\n" + " ".join(f"w{n}" for n in range(20)) + "\n\nEnd."
    found = chunks(text, 6)
    assert all(len(chunk.split()) <= 6 for chunk in found)
    assert " ".join(found).split() == text.split()
    lapped = chunks(text, 6, 2)
    assert all(len(chunk.split()) <= 6 for chunk in lapped)
    assert all(after.split()[:2] == before.split()[-2:] for before, after in itertools.pairwise(lapped))
    assert chunks("", 6) == []


def test_a_comment_in_code_is_no_heading() -> None:
    text = "# Title\n\nBefore.\n\n```sh\nls\n\n# not a heading\n\ncd\n```\n\nAfter.\n\n## Next\n\nEnd."
    assert [(passage.title, passage.text[-6:]) for passage in Given([text]).load()] == [
        ("Title", "After."),
        ("Next", "End."),
    ]


def test_a_sentence_stays_whole_where_it_can() -> None:
    assert chunks("One two three. Four five. Six seven eight nine.", 6) == [
        "One two three. Four five.",
        "Six seven eight nine.",
    ]
    assert chunks("あいう。えお。" * 3, 8) == ["あいう。えお。", "あいう。えお。", "あいう。えお。"]


async def test_chunking_as_a_step(handlers: Handlers) -> None:
    assert await ask(handlers, "chunk", text="a b c d", words=2) == {"chunks": ["a b", "c d"]}
    with pytest.raises(DspexError, match="below 'words'"):
        await ask(handlers, "chunk", text="a", words=2, overlap=2)
    with pytest.raises(DspexError, match=r"at `\$.words`"):
        await ask(handlers, "chunk", text="a", words=0)


def test_a_long_paragraph_makes_several_passages() -> None:
    text = " ".join(f"Sentence number {n} says something." for n in range(200))
    found = Given([text]).load()
    assert len(found) > 3
    assert all(len(one.text.split()) <= 320 for one in found)


_TEXTS = st.text(alphabet=st.sampled_from("ab .!?\n#。é"), max_size=300)


@given(_TEXTS, st.integers(1, 9), st.integers(0, 8))
@settings(max_examples=150)
def test_whatever_the_text_chunks_hold_all_of_it_and_no_more_than_asked(text: str, words: int, overlap: int) -> None:
    overlap = min(overlap, words - 1)
    found = chunks(text, words, overlap)
    assert all(0 < len(chunk.split()) <= words for chunk in found)
    alone = [chunk.split() for chunk in chunks(text, words - overlap)]
    assert "".join(word for chunk in alone for word in chunk) == "".join(text.split())
    assert len(found) == len(alone)


@pytest.mark.parametrize("text", ["The quick brown fox jumps. " * 40_000, "word\n\n" * 40_000, "word " * 200_000])
def test_a_long_text_is_cut_in_time_that_grows_with_its_length(text: str) -> None:
    started = time.monotonic()
    assert len(chunks(text, 200, 20)) > 100
    assert Given([text]).load()
    assert time.monotonic() - started < 10
