"""ColBERTv2 and web search against servers on this machine that speak their protocols, and misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
from aiohttp import web
from native_rig import serving

from dspex_bus.errors import DspexError
from dspex_services.native.retrieval.colbert import colbert
from dspex_services.native.retrieval.passages import Passage
from dspex_services.native.retrieval.services import Provider, SearchClient
from dspex_services.native.retrieval.web import PROVIDERS, web_provider

pytestmark = pytest.mark.anyio


class Service:
    """Answers as it is told and remembers what it was asked."""

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.answer: Any = {}
        self.asked: list[web.Request] = []
        self.bodies: list[Any] = []

    async def respond(self, request: web.Request) -> Any:
        self.asked.append(request)
        self.bodies.append(await request.json() if request.method == "POST" else None)
        return await self.answer() if callable(self.answer) else self.answer


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    service = Service()
    async with serving(service.respond) as url:
        service.url = url
        yield service


async def found(provider: Provider, environment: Mapping[str, str], k: int = 3, timeout_s: float = 5) -> list[Passage]:
    client = SearchClient(environment)
    try:
        return await client.look_up(provider, "okapi & co", k, timeout_s=timeout_s)
    finally:
        await client.close()


HITS = [
    {"pid": 4, "rank": 2, "score": 19.0, "text": "Zebra | Zebras live on plains.", "prob": 0.4},
    {"pid": 7, "rank": 1, "score": 21.5, "text": "Okapi | The okapi lives in the Congo.", "prob": 0.6},
    {"pid": 9, "rank": 3, "score": 3.0, "text": "No title here.", "prob": 0.0},
]


async def test_colbert_by_get(service: Service) -> None:
    service.answer = {"query": "okapi & co", "topk": HITS}
    passages = await found(colbert, {"DSPEX_COLBERT_URL": f"{service.url}/api/search"}, k=2)
    assert passages == [
        Passage(id="colbert:7", source="colbert:7", title="Okapi", text="The okapi lives in the Congo.", score=21.5),
        Passage(id="colbert:4", source="colbert:4", title="Zebra", text="Zebras live on plains.", score=19.0),
    ]
    assert (service.asked[0].method, dict(service.asked[0].query)) == ("GET", {"query": "okapi & co", "k": "2"})


async def test_colbert_by_post(service: Service) -> None:
    service.answer = {"topk": [{**hit, "text": "", "long_text": hit["text"]} for hit in HITS]}
    environment = {"DSPEX_COLBERT_URL": f"{service.url}/api/search", "DSPEX_COLBERT_METHOD": "POST"}
    passages = await found(colbert, environment, k=100)
    assert [(one.title, one.text) for one in passages][2] == ("", "No title here.")
    assert service.bodies == [{"query": "okapi & co", "k": 100}]


async def test_colbert_says_what_went_wrong(service: Service) -> None:
    service.answer = {"error": True, "message": "the index is being built"}
    with pytest.raises(DspexError, match="the index is being built") as caught:
        await found(colbert, {"DSPEX_COLBERT_URL": service.url})
    assert (caught.value.code, caught.value.retryable) == ("search_unavailable", True)
    with pytest.raises(DspexError, match="it is get or post"):
        await found(colbert, {"DSPEX_COLBERT_URL": service.url, "DSPEX_COLBERT_METHOD": "put"})


WEB = {
    "searxng": (
        {"results": [{"url": "http://a", "title": "A <b>title</b>", "content": "5 &lt; 6 &amp; 7"}]},
        lambda url: {"DSPEX_SEARXNG_URL": f"{url}/"},
        ("/search", {"q": "okapi & co", "format": "json"}, {}),
    ),
    "brave": (
        {"web": {"results": [{"url": "http://a", "title": "A title", "description": "5 &lt; 6 &amp; <b>7</b>"}]}},
        lambda url: {"BRAVE_API_KEY": "k1", "DSPEX_BRAVE_URL": f"{url}/res/v1/web/search"},
        ("/res/v1/web/search", {"q": "okapi & co", "count": "3"}, {"X-Subscription-Token": "k1"}),
    ),
    "google": (
        {"kind": "customsearch#search", "items": [{"link": "http://a", "title": "A title", "snippet": "5 < 6 & 7"}]},
        lambda url: {"GOOGLE_API_KEY": "k2", "GOOGLE_CSE_ID": "cx", "DSPEX_GOOGLE_URL": f"{url}/customsearch/v1"},
        ("/customsearch/v1", {"q": "okapi & co", "cx": "cx", "num": "3"}, {"X-Goog-Api-Key": "k2"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PROVIDERS)
async def test_web_search(service: Service, name: str) -> None:
    service.answer, environment, (path, query, headers) = WEB[name]
    passages = await found(PROVIDERS[name], environment(service.url))
    assert passages == [Passage(id="http://a", text="5 < 6 & 7", source="http://a", title="A title", score=1.0)]
    asked = service.asked[0]
    assert (asked.path, dict(asked.query)) == (path, query)
    assert {name: asked.headers[name] for name in headers} == headers
    assert "k2" not in str(asked.rel_url)


@pytest.mark.parametrize(("name", "nothing"), [("searxng", {"results": []}), ("brave", {}), ("google", {})])
async def test_nothing_found(service: Service, name: str, nothing: Any) -> None:
    service.answer = nothing
    assert await found(PROVIDERS[name], WEB[name][1](service.url)) == []


def test_the_environment_chooses_the_provider() -> None:
    everything = {**WEB["searxng"][1]("http://s"), **WEB["brave"][1]("http://b"), **WEB["google"][1]("http://g")}
    assert web_provider(None, everything) is PROVIDERS["searxng"]
    assert web_provider("google", everything) is PROVIDERS["google"]
    assert web_provider(None, {"GOOGLE_API_KEY": "k", "BRAVE_API_KEY": "k"}) is PROVIDERS["brave"]
    for name, environment in ((None, {"GOOGLE_API_KEY": "k"}), ("bing", everything)):
        with pytest.raises(DspexError) as caught:
            web_provider(name, environment)
        assert caught.value.code == "search_not_configured"


def response(status: int, **headers: str) -> Any:
    async def answer() -> web.Response:
        return web.Response(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


async def text() -> web.Response:
    return web.Response(text="<html>")


async def hang() -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


@pytest.mark.parametrize(
    ("answer", "code", "retryable", "told"),
    [
        (response(429, Retry_After="7"), "search_unavailable", True, "429"),
        (response(503), "search_unavailable", True, "503"),
        (response(400), "search_unavailable", False, "400"),
        (response(401), "search_not_configured", False, "key"),
        (response(302, Location="http://elsewhere/"), "search_unavailable", False, "leads to http://elsewhere/"),
        (text, "search_unavailable", True, "not what its protocol promises"),
        ({"results": [{}]}, "search_unavailable", True, "not what its protocol promises"),
        ([], "search_unavailable", True, "not what its protocol promises"),
        (hang, "search_unavailable", True, "did not answer"),
    ],
)
async def test_what_can_go_wrong(service: Service, answer: Any, code: str, retryable: bool, told: str) -> None:
    service.answer = answer
    with pytest.raises(DspexError, match=told) as caught:
        await found(PROVIDERS["searxng"], {"DSPEX_SEARXNG_URL": service.url}, timeout_s=0.3 if answer is hang else 5)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert caught.value.details.get("retry_after_s") == (7.0 if "429" in told else None)


async def test_nobody_there() -> None:
    with pytest.raises(DspexError, match="did not answer"):
        await found(PROVIDERS["searxng"], {"DSPEX_SEARXNG_URL": "http://127.0.0.1:1"})
