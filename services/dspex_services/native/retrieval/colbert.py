"""ColBERTv2's protocol, as its own server and DSPy's client speak it.

``GET url?query=&k=``, or the same as a posted object, answers ``{"topk": [{pid, rank, score, text, prob}]}``; a posted
one has ``long_text`` too; a failure may come as ``{"error": true, "message": …}`` with status 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import SearchNotConfigured, SearchUnavailable
from .passages import Passage
from .services import Lookup, configured

URL = "DSPEX_COLBERT_URL"
METHOD = "DSPEX_COLBERT_METHOD"
MOST = 100


def colbert(query: str, k: int, environment: Mapping[str, str]) -> Lookup:
    url = configured(environment, URL, "a ColBERTv2 server's search address")
    if posts(environment):
        return Lookup(url, {}, {}, read, {"query": query, "k": min(k, MOST)})
    return Lookup(url, {"query": query, "k": str(min(k, MOST))}, {}, read)


def posts(environment: Mapping[str, str]) -> bool:
    """Whether the operator's server wants requests posted."""
    method = environment.get(METHOD, "get").lower()
    if method not in ("get", "post"):
        raise SearchNotConfigured(f"{METHOD} is {method!r}; it is get or post")
    return method == "post"


def read(answer: Any) -> list[Passage]:
    """The passages of an answer, best first. Raises SearchUnavailable with what the server says went wrong."""
    if answer.get("error"):
        raise SearchUnavailable(f"the ColBERTv2 server said: {answer.get('message') or answer['error']}")
    return passages(answer["topk"])


def passages(hits: list[Any]) -> list[Passage]:
    """The protocol's hits. A text is ``title | passage``, as in the collections it was made for."""
    found = []
    for hit in sorted(hits, key=lambda hit: int(hit["rank"])):
        title, bar, text = str(hit.get("long_text") or hit["text"]).partition(" | ")
        source = f"colbert:{hit['pid']}"
        told = text if bar else title
        found.append(
            Passage(id=source, text=told, source=source, title=title if bar else "", score=float(hit["score"]))
        )
    return found
