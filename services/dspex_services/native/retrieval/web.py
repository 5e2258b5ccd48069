"""Web search, by provider. Another one is a function here and a line in ``PROVIDERS``."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import SearchNotConfigured
from .passages import Passage
from .services import Lookup, Provider, configured

SEARXNG_URL = "DSPEX_SEARXNG_URL"
BRAVE_KEY = "BRAVE_API_KEY"
BRAVE_URL = "DSPEX_BRAVE_URL"
GOOGLE_KEY = "GOOGLE_API_KEY"
GOOGLE_ENGINE = "GOOGLE_CSE_ID"
GOOGLE_URL = "DSPEX_GOOGLE_URL"
_BRAVE = "https://api.search.brave.com/res/v1/web/search"
_GOOGLE = "https://www.googleapis.com/customsearch/v1"
_BRAVE_MOST = 20
_GOOGLE_MOST = 10

_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def searxng(query: str, k: int, environment: Mapping[str, str]) -> Lookup:
    """SearXNG, an instance of one's own at ``DSPEX_SEARXNG_URL`` with its JSON format enabled."""
    url = configured(environment, SEARXNG_URL, "the address of a SearXNG instance")
    return Lookup(
        f"{url.rstrip('/')}/search",
        {"q": query, "format": "json"},
        {},
        lambda answer: _passages(answer["results"], "url", "content"),
    )


def brave(query: str, k: int, environment: Mapping[str, str]) -> Lookup:
    """Brave's web search; ``BRAVE_API_KEY`` in the worker's environment."""
    key = configured(environment, BRAVE_KEY, "a key of the Brave Search API")
    return Lookup(
        environment.get(BRAVE_URL) or _BRAVE,
        {"q": query, "count": str(min(k, _BRAVE_MOST))},
        {"X-Subscription-Token": key, "Accept": "application/json"},
        lambda answer: _passages(answer.get("web", {}).get("results", []), "url", "description"),
    )


def google(query: str, k: int, environment: Mapping[str, str]) -> Lookup:
    """Google's Custom Search; ``GOOGLE_API_KEY``, and the engine's id as ``GOOGLE_CSE_ID``."""
    key = configured(environment, GOOGLE_KEY, "a key of Google's Custom Search API")
    engine = configured(environment, GOOGLE_ENGINE, "the id of a Programmable Search Engine")
    return Lookup(
        environment.get(GOOGLE_URL) or _GOOGLE,
        {"q": query, "cx": engine, "num": str(min(k, _GOOGLE_MOST))},
        {"X-Goog-Api-Key": key},
        lambda answer: _passages(answer.get("items", []), "link", "snippet"),
    )


PROVIDERS: dict[str, Provider] = {"searxng": searxng, "brave": brave, "google": google}
_NEEDS = {"searxng": (SEARXNG_URL,), "brave": (BRAVE_KEY,), "google": (GOOGLE_KEY, GOOGLE_ENGINE)}


def web_provider(name: str | None, environment: Mapping[str, str]) -> Provider:
    """The provider asked for, else the first one that the environment configures. Raises SearchNotConfigured."""
    if name is not None:
        if name not in PROVIDERS:
            raise SearchNotConfigured(f"no web search provider {name!r}; there are: {', '.join(PROVIDERS)}")
        return PROVIDERS[name]
    for one, needs in _NEEDS.items():
        if all(environment.get(need) for need in needs):
            return PROVIDERS[one]
    options = ", or ".join(" and ".join(needs) for needs in _NEEDS.values())
    raise SearchNotConfigured(f"web search is not configured: set {options} in the pool's environment")


def _passages(hits: Iterable[Any], url: str, text: str) -> list[Passage]:
    return [
        Passage(
            id=hit[url],
            text=_plain(hit.get(text) or ""),
            source=hit[url],
            title=_plain(hit.get("title") or ""),
            score=1 / (1 + place),
        )
        for place, hit in enumerate(hits)
    ]


def _plain(text: str) -> str:
    """Without the tags that engines put around the words that were searched for."""
    return html.unescape(_TAG.sub("", text)).strip()
