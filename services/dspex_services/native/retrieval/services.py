"""Search services over HTTP: ColBERTv2's protocol, and web search by provider. Addresses and keys are the
operator's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import aiohttp

from .documents import Passage
from .errors import SearchNotConfigured, SearchUnavailable

COLBERT_URL = "DSPEX_COLBERT_URL"
SEARXNG_URL = "DSPEX_SEARXNG_URL"
BRAVE_KEY = "BRAVE_API_KEY"
BRAVE_URL = "DSPEX_BRAVE_URL"
_BRAVE = "https://api.search.brave.com/res/v1/web/search"
_COLBERT_MOST = 100


class Lookup(NamedTuple):
    """One request: where to, with what, and how to read the answer."""

    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    read: Callable[[Any], list[Passage]]


class Provider(Protocol):
    def __call__(self, query: str, k: int, environment: Mapping[str, str]) -> Lookup: ...


def colbert(query: str, k: int, environment: Mapping[str, str]) -> Lookup:
    """ColBERTv2: ``GET url?query=&k=`` answers ``{"topk": [{pid, rank, score, text, prob}]}``, best first."""
    url = _configured(environment, COLBERT_URL, "a ColBERTv2 server's search address")
    return Lookup(url, {"query": query, "k": str(min(k, _COLBERT_MOST))}, {}, _read_colbert)


def _read_colbert(answer: Any) -> list[Passage]:
    return [
        Passage(
            id=f"colbert:{hit['pid']}",
            text=hit["text"].partition(" | ")[2] or hit["text"],
            source=f"colbert:{hit['pid']}",
            title=hit["text"].partition(" | ")[0] if " | " in hit["text"] else "",
            score=float(hit["score"]),
        )
        for hit in sorted(answer["topk"], key=lambda hit: int(hit["rank"]))
    ]


def brave(query: str, k: int, environment: Mapping[str, str]) -> Lookup:
    """Brave's web search; ``BRAVE_API_KEY`` in the worker's environment."""
    key = _configured(environment, BRAVE_KEY, "a key of the Brave Search API")
    url = environment.get(BRAVE_URL) or _BRAVE
    headers = {"X-Subscription-Token": key, "Accept": "application/json"}
    return Lookup(url, {"q": query, "count": str(min(k, 20))}, headers, _read_brave)


def _read_brave(answer: Any) -> list[Passage]:
    hits = answer.get("web", {}).get("results", [])
    return [_web(hit["url"], hit.get("title", ""), hit.get("description", ""), place) for place, hit in enumerate(hits)]


def searxng(query: str, k: int, environment: Mapping[str, str]) -> Lookup:
    """SearXNG, an instance of one's own at ``DSPEX_SEARXNG_URL`` with its JSON format enabled."""
    url = _configured(environment, SEARXNG_URL, "the address of a SearXNG instance")
    return Lookup(f"{url.rstrip('/')}/search", {"q": query, "format": "json"}, {}, _read_searxng)


def _read_searxng(answer: Any) -> list[Passage]:
    hits = answer["results"]
    return [_web(hit["url"], hit.get("title", ""), hit.get("content", ""), place) for place, hit in enumerate(hits)]


def _web(url: str, title: str, text: str, place: int) -> Passage:
    return Passage(id=url, text=text, source=url, title=title, score=1 / (1 + place))


PROVIDERS: dict[str, Provider] = {"brave": brave, "searxng": searxng}


def web_provider(name: str | None, environment: Mapping[str, str]) -> Provider:
    """The provider asked for, or the one the environment configures."""
    if name is not None:
        if name not in PROVIDERS:
            raise SearchNotConfigured(f"no web search provider {name!r}; there are: {', '.join(PROVIDERS)}")
        return PROVIDERS[name]
    if environment.get(SEARXNG_URL):
        return searxng
    if environment.get(BRAVE_KEY):
        return brave
    raise SearchNotConfigured(
        f"web search is not configured: set {SEARXNG_URL} or {BRAVE_KEY} in the pool's environment"
    )


def _configured(environment: Mapping[str, str], name: str, what: str) -> str:
    value = environment.get(name)
    if not value:
        raise SearchNotConfigured(f"set {name} in the pool's environment to {what}")
    return value


async def look_up(provider: Provider, query: str, k: int, timeout_s: float) -> list[Passage]:
    """The service's passages, best first, within the time."""
    lookup = provider(query, k, os.environ)
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=timeout_s)) as session,
            session.get(lookup.url, params=lookup.query, headers=lookup.headers) as answer,
        ):
            body = await answer.read()
            if answer.status != 200:
                raise SearchUnavailable(f"the search service answered {answer.status}", retryable=answer.status >= 429)
            return lookup.read(json.loads(body))[:k]
    except (aiohttp.ClientError, TimeoutError) as error:
        raise SearchUnavailable(f"the search service did not answer: {type(error).__name__}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SearchUnavailable(f"the search service's answer is not what its protocol promises: {error!r}") from error
