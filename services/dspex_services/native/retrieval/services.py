"""Search services over HTTP: one request each. Addresses and keys are the operator's."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .errors import SearchNotConfigured, SearchUnavailable
from .passages import Passage

if TYPE_CHECKING:
    import aiohttp

_LARGEST = 16 * 1024 * 1024


class Lookup(NamedTuple):
    """One request: where to, with what, and how to read the answer. With a ``body`` it is posted."""

    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    read: Callable[[Any], list[Passage]]
    body: Mapping[str, Any] | None = None


class Provider(Protocol):
    """What to ask a service, by the operator's environment. Raises SearchNotConfigured."""

    def __call__(self, query: str, k: int, environment: Mapping[str, str]) -> Lookup: ...


def configured(environment: Mapping[str, str], name: str, what: str) -> str:
    """The environment's value of a name, which says ``what`` it should have been where there is none."""
    value = environment.get(name)
    if not value:
        raise SearchNotConfigured(f"set {name} in the pool's environment to {what}")
    return value


class SearchClient:
    """Its connections are kept between searches."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self.environment = os.environ if environment is None else environment
        self._http: aiohttp.ClientSession | None = None

    async def look_up(self, provider: Provider, query: str, k: int, *, timeout_s: float) -> list[Passage]:
        """The service's passages, best first, within the time."""
        import aiohttp  # a worker that does not search starts sooner without it

        lookup = provider(query, k, self.environment)
        if self._http is None:
            self._http = aiohttp.ClientSession()
        # A redirect would take a key to wherever it leads.
        request = self._http.request(
            "GET" if lookup.body is None else "POST",
            lookup.url,
            params=lookup.query,
            headers=lookup.headers,
            json=lookup.body,
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            allow_redirects=False,
        )
        try:
            async with request as answer:
                if answer.status != 200:
                    raise _refused(answer)
                found = lookup.read(json.loads(await _body(answer)))
        except (aiohttp.ClientError, TimeoutError) as error:
            raise SearchUnavailable(f"the search service did not answer: {type(error).__name__}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SearchUnavailable(
                f"the search service's answer is not what its protocol promises: {error!r}"
            ) from error
        return found[:k]

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for piece in answer.content.iter_any():
        found += piece
        if len(found) > _LARGEST:
            raise ValueError(f"more than {_LARGEST} bytes")
    return bytes(found)


def _refused(answer: aiohttp.ClientResponse) -> SearchUnavailable | SearchNotConfigured:
    status = answer.status
    if status in (401, 403):
        return SearchNotConfigured(f"the search service refused the pool's key ({status})")
    retryable = status in (408, 429) or status >= 500
    details: dict[str, Any] = {"http_status": status}
    if retryable and (wait := _seconds(answer.headers.get("Retry-After"))) is not None:
        details["retry_after_s"] = wait
    where = (
        f", which leads to {answer.headers['Location']}" if 300 <= status < 400 and "Location" in answer.headers else ""
    )
    return SearchUnavailable(f"the search service answered {status}{where}", retryable=retryable, details=details)


def _seconds(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and math.isfinite(number) and number >= 0 else None
