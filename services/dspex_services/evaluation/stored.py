"""Data sets on the bus: stored once by their digest, named by jobs."""

from __future__ import annotations

import hashlib

import msgspec

from dspex_bus import Bus
from dspex_bus.errors import InvalidRequest, NotFound

from .datasets import Dataset, Row

BUCKET = "dspex_datasets"

_rows = msgspec.json.Decoder(tuple[Row, ...])


async def keep_dataset(bus: Bus, dataset: Dataset) -> str:
    """Its digest, under which any worker finds it."""
    objects, digest = bus.objects(BUCKET), dataset.digest
    if await objects.get(digest) is None:
        await objects.put(digest, msgspec.json.encode(dataset.rows))
    return digest


async def stored_dataset(bus: Bus, digest: str) -> Dataset:
    """Raises NotFound (``unknown_dataset``), or InvalidRequest where it is damaged."""
    data = await bus.objects(BUCKET).get(digest)
    if data is None:
        raise NotFound(f"there is no data set {digest}", code="unknown_dataset")
    if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise InvalidRequest(f"the stored data set {digest} is damaged", code="damaged_dataset")
    return Dataset(digest, _rows.decode(data))
