"""Making and migrating streams: what is absent is made, what differs is updated, nothing stored is ever destroyed."""

from __future__ import annotations

import logging
import time
from typing import Any

from ..errors import NotFound, SetupError, StoreFailed
from ..streams import LARGEST_KEY, BucketSpec, StreamSpec, merged_metadata
from .jetstream import JetStream

logger = logging.getLogger("dspex.bus")

_EXISTS, _INVALID = 10058, 10052


def stream_config(spec: StreamSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": spec.name,
        "subjects": list(spec.subjects),
        "storage": spec.storage,
        "retention": "workqueue" if spec.work_queue else "limits",
        "discard": "old" if spec.schedules else "new",
        "num_replicas": spec.replicas,
        "allow_direct": True,
        "allow_msg_schedules": spec.schedules,
        "max_age": 0,
        "metadata": dict(spec.metadata),
    }
    if spec.republish is not None:
        config["republish"] = {"src": spec.republish[0], "dest": spec.republish[1]}
    return config


def bucket_config(spec: BucketSpec) -> dict[str, Any]:
    if spec.largest is not None:
        return objects_config(spec)
    return {
        "name": f"KV_{spec.name}",
        "subjects": [f"$KV.{spec.name}.>"],
        "storage": spec.storage,
        "retention": "limits",
        "discard": "new" if spec.most_bytes is None else "old",
        "max_bytes": -1 if spec.most_bytes is None else spec.most_bytes,
        "max_msgs_per_subject": 1,
        "num_replicas": spec.replicas,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "allow_msg_ttl": spec.ttl,
    }


def objects_config(spec: BucketSpec) -> dict[str, Any]:
    return {
        "name": f"OBJ_{spec.name}",
        "subjects": [f"$O.{spec.name}.C.>", f"$O.{spec.name}.M.>"],
        "storage": spec.storage,
        "retention": "limits",
        "discard": "new",
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "num_replicas": spec.replicas,
        "metadata": {} if spec.largest is None else {LARGEST_KEY: str(spec.largest)},
    }


async def make(jetstream: JetStream, config: dict[str, Any]) -> dict[str, Any] | None:
    """Make the stream; where it is there already, its configuration."""
    name = config["name"]
    try:
        return await _config(jetstream, name)
    except NotFound:
        first: dict[str, Any] = {}
        if config["storage"] == "memory":
            # Made again after the server's restart, it must not use sequences again: an acknowledgement from before
            # would take away a message of now.
            first = {"first_seq": time.time_ns() // 1_000_000}
        try:
            await jetstream.ask(f"STREAM.CREATE.{name}", {**config, **first})
        except StoreFailed as error:
            if error.details.get("err_code") != _EXISTS:
                raise _cannot(name, "made", error) from error
            return await _config(jetstream, name)  # somebody made it at the same time
    return None


async def prepare(jetstream: JetStream, config: dict[str, Any]) -> None:
    name = config["name"]
    there = await make(jetstream, config)
    wanted = None if there is None else _migrated(there, config)
    if wanted is not None:
        logger.info("the stream %s is brought up to date", name)
        try:
            await jetstream.ask(f"STREAM.UPDATE.{name}", wanted)
        except StoreFailed as error:
            raise _cannot(name, "brought up to date", error) from error


async def _config(jetstream: JetStream, name: str) -> dict[str, Any]:
    answer = await jetstream.ask(f"STREAM.INFO.{name}")
    config: dict[str, Any] = answer["config"]
    return config


def _cannot(name: str, what: str, error: StoreFailed) -> StoreFailed | SetupError:
    """What the server will never do is for a person to settle."""
    never = not error.retryable or error.details.get("err_code") == _INVALID
    return error if not never else SetupError(f"the stream {name} cannot be {what}: {error}")


def _migrated(there: dict[str, Any], config: dict[str, Any]) -> dict[str, Any] | None:
    """The configuration to update to, None where nothing differs. What the server added of its own stays."""
    if there["storage"] != config["storage"]:
        raise SetupError(
            f"the stream {config['name']} is kept in {there['storage']} storage and {config['storage']} was asked for: "
            "that cannot be changed while it is there; ask for the other, or delete the stream once it is empty"
        )
    metadata = merged_metadata(there.get("metadata", {}), config.get("metadata", {}))
    wanted = {**there, **config, **({"metadata": metadata} if metadata else {})}
    differs = any(there.get(key) != value and (value or there.get(key)) for key, value in wanted.items())
    return wanted if differs else None
