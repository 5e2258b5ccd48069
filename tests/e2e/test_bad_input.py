"""Every bad input gets a clear error with a stable code, within a bounded time, and nothing else notices.

The requests are made with plain nats-py, as any client would make them.
"""

from __future__ import annotations

import json
from typing import Any

import anyio
import nats
import pytest
from nats.aio.client import Client as Nats

from dspex_bus import EmbeddedServer, NatsBus
from dspex_bus.streams import LARGEST_BYTES
from dspex_router import Router, RouterConfig

from .conftest import RunningSystem

pytestmark = pytest.mark.anyio

HELLO = {"name": "hello", "steps": [{"native": "template", "with": {"template": "Hello {{ name }}"}}]}


async def ask(raw: Nats, subject: str, body: Any, timeout: float = 15) -> tuple[dict[str, str], dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await raw.request(subject, data, timeout=timeout)
    return dict(reply.headers or {}), json.loads(reply.data)


async def refused(raw: Nats, subject: str, body: Any, code: str, status: str) -> dict[str, Any]:
    headers, error = await ask(raw, subject, body)
    assert (error.get("code"), headers.get("Nats-Service-Error-Code")) == (code, status), error
    assert error["message"]
    await _still_serves(raw)
    return error


async def ended_badly(raw: Nats, body: dict[str, Any], code: str, status: str = "failed") -> dict[str, Any]:
    headers, result = await ask(raw, "dspex.v1.run.inline", body, timeout=40)
    assert "Nats-Service-Error-Code" not in headers, result
    assert (result["status"], result["error"]["code"]) == (status, code), result
    await _still_serves(raw)
    return result


async def _still_serves(raw: Nats) -> None:
    _, result = await ask(raw, "dspex.v1.run.inline", {"definition": HELLO, "input": {"name": "Ada"}})
    assert result["output"] == {"text": "Hello Ada"}


def inline(step: dict[str, Any], **input: Any) -> dict[str, Any]:
    return {"definition": {"name": "bad", "steps": [step]}, "input": input}


@pytest.mark.parametrize("verb", ["run", "submit"])
async def test_malformed_json(raw: Nats, verb: str) -> None:
    error = await refused(raw, f"dspex.v1.{verb}.inline", b'{"input": {', "malformed_message", "400")
    assert "malformed" in error["message"]


async def test_wrong_shape_names_the_place(raw: Nats) -> None:
    error = await refused(raw, "dspex.v1.run.inline", {"input": 7}, "malformed_message", "400")
    assert "$.input" in error["message"]


async def test_unknown_field_is_not_ignored(raw: Nats) -> None:
    error = await refused(raw, "dspex.v1.run.inline", {"inputs": {"name": "Ada"}}, "malformed_message", "400")
    assert "inputs" in error["message"]


@pytest.mark.parametrize("depth", [201, 300, 970, 5000, 100_000])
async def test_nested_too_deep(raw: Nats, depth: int) -> None:
    """Far from what a decoder can bear, or a router would fall over what it has in its journal."""
    text = json.dumps({"definition": HELLO, "input": {"name": "?"}}).replace('"?"', "[" * depth + "]" * depth)
    await refused(raw, "dspex.v1.run.inline", text.encode(), "malformed_message", "400")


async def test_nested_deep_and_not_too_deep(raw: Nats) -> None:
    text = json.dumps(
        {"definition": {"name": "deep", "steps": [{"native": "rough.count"}]}, "input": {"a": "?", "b": 1}}
    )
    text = text.replace('"?"', "[" * 190 + '"[[{\\"[["' + "]" * 190)
    _, result = await ask(raw, "dspex.v1.run.inline", text.encode())
    assert result["output"] == {"names": ["a", "b"], "n": 2}
    _, result = await ask(raw, "dspex.v1.run.inline", inline({"native": "rough.count"}, a=[{"t": "[{[" * 99}] * 999))
    assert result["output"] == {"names": ["a"], "n": 1}


async def test_unknown_pipeline(raw: Nats) -> None:
    await refused(raw, "dspex.v1.run.nowhere", {}, "unknown_pipeline", "404")


async def test_unknown_session(raw: Nats) -> None:
    await refused(raw, "dspex.v1.session.get", {"session": "nobody"}, "unknown_session", "404")


async def test_missing_field_is_found_before_the_run_starts(raw: Nats) -> None:
    step = {"native": "colbert_search"}
    error = await refused(raw, "dspex.v1.run.inline", inline(step, other=1), "missing_field", "400")
    assert error["details"]["path"] == "steps[0]"


async def test_wrong_type_names_the_field(raw: Nats) -> None:
    step = {"native": "vector_search", "with": {"folder": ".", "k": "many"}}
    result = await ended_badly(raw, inline(step, query="what"), "invalid_input")
    assert "k" in result["error"]["message"]


async def test_unknown_handler_suggests_the_nearest(raw: Nats) -> None:
    error = await refused(raw, "dspex.v1.run.inline", inline({"native": "templat"}), "unknown_handler", "400")
    assert "template" in error["message"]


async def test_unknown_operation(raw: Nats) -> None:
    headers, error = await ask(raw, "dspex.v1.call.divine", {})
    assert headers["Nats-Service-Error-Code"] == "404"
    assert error["code"] in ("unknown_operation", "unknown_handler")


async def test_two_kinds_in_one_step(raw: Nats) -> None:
    step = {"native": "template", "module": "dspy.Predict"}
    error = await refused(raw, "dspex.v1.run.inline", inline(step), "invalid_pipeline", "400")
    assert error["details"]["path"].startswith("steps[0]")


async def test_no_worker_for_a_pool() -> None:
    """A router that waits for workers less long than others do."""
    step = {"native": "template", "pool": "empty", "with": {"template": "x"}}
    async with (
        EmbeddedServer() as server,
        NatsBus(server.url, name="router") as bus,
        anyio.create_task_group() as group,
    ):
        await group.start(Router(bus, RouterConfig(workers_grace_s=0.1)).run)
        connection = await nats.connect(server.url)
        headers, error = await ask(connection, "dspex.v1.run.inline", inline(step))
        await connection.close()
        group.cancel_scope.cancel()
    assert (error["code"], headers["Nats-Service-Error-Code"]) == ("no_workers", "503")
    assert error["retryable"]
    assert "empty" in error["message"]


async def test_request_larger_than_the_server_carries_never_leaves_the_client(raw: Nats) -> None:
    with pytest.raises(nats.errors.MaxPayloadError):
        await raw.request("dspex.v1.run.inline", b"x" * (raw.max_payload + 1), timeout=5)
    await _still_serves(raw)


async def test_output_too_large(raw: Nats) -> None:
    result = await ended_badly(raw, inline({"native": "rough.swell"}, size=LARGEST_BYTES), "payload_too_large")
    assert "the largest outputs: text" in result["error"]["message"]
    assert result["error"]["details"]["limit"] == LARGEST_BYTES
    await _still_serves(raw)


async def test_object_that_is_not_there(raw: Nats) -> None:
    for name in (".said.0123456789abcdef01234567", "another.end.0123456789abcdef01234567", "whatever"):
        reply = await raw.request("dspex.v1.run.inline", b"", timeout=10, headers={"Dspex-Object": name})
        assert json.loads(reply.data)["code"] == "object_gone"
        assert name in json.loads(reply.data)["message"]


async def test_handler_that_raises(raw: Nats) -> None:
    result = await ended_badly(raw, inline({"native": "rough.raise"}, text="boom"), "handler_error")
    assert "ValueError" in result["error"]["message"]
    assert "boom" in result["error"]["message"]


async def test_handler_error_of_ones_own(raw: Nats) -> None:
    await ended_badly(raw, inline({"native": "rough.refuse"}), "not_today")


@pytest.mark.parametrize("handler", ["rough.hang", "rough.block"])
async def test_handler_that_hangs(raw: Nats, handler: str) -> None:
    step = {"native": handler, "timeout_s": 0.3, "retry": {"attempts": 1}}
    await ended_badly(raw, inline(step), "step_timed_out")


async def test_run_that_takes_too_long(raw: Nats) -> None:
    body = {**inline({"native": "rough.hang"}), "timeout_s": 0.5}
    await ended_badly(raw, body, "deadline_exceeded", status="timed_out")


async def test_run_that_sleeps_longer_than_it_may_take(raw: Nats) -> None:
    """An hour, unless it says so: it would be waited for in vain."""
    weeks = {"sleep_s": 14 * 86_400}
    error = await refused(raw, "dspex.v1.submit.inline", inline(weeks), "invalid_request", "400")
    assert "sleeps 1209600 s and may take 3600 s" in error["message"]
    _, submitted = await ask(raw, "dspex.v1.submit.inline", {**inline(weeks), "timeout_s": 15 * 86_400})
    _, view = await ask(raw, "dspex.v1.session.cancel", {"session": submitted["session"]})
    assert view["status"] == "cancelled"


async def test_handler_that_kills_its_worker(raw: Nats) -> None:
    """Delivered three times, each to a worker that dies of it; then recorded as lost."""
    await ended_badly(raw, inline({"native": "rough.die", "retry": {"attempts": 1}}), "worker_lost")


async def test_module_that_the_operator_does_not_offer_is_not_imported(raw: Nats) -> None:
    error = await refused(raw, "dspex.v1.run.inline", inline({"module": "this:Zen"}), "unknown_handler", "400")
    assert "this.Zen" in error["message"]


async def test_signature_with_an_unknown_type_is_refused_and_not_imported(raw: Nats) -> None:
    step = {"module": "dspy.Predict", "with": {"signature": "question -> answer: this"}}
    error = await refused(raw, "dspex.v1.run.inline", inline(step, question="q"), "invalid_signature", "400")
    assert "this" in error["message"]


async def test_no_router(running: RunningSystem) -> None:
    """A server alone: the client is told at once that nobody answers."""
    async with EmbeddedServer() as server:
        connection = await nats.connect(server.url)
        with pytest.raises(nats.errors.NoRespondersError):
            await connection.request("dspex.v1.run.inline", b"{}", timeout=5)
        await connection.close()
        import dspex

        async with dspex.connect(server.url) as client:
            with pytest.raises(dspex.Unavailable) as refusal:
                await client.run("anything")
            assert refusal.value.code == "no_router"


async def test_server_gone() -> None:
    import dspex

    async with EmbeddedServer() as server, dspex.connect(server.url) as client:
        await server.kill()
        with pytest.raises(dspex.Unavailable) as refusal:
            await client.run("anything", timeout_s=5)
        assert refusal.value.code in ("disconnected", "deadline_exceeded")


async def test_no_server_at_all() -> None:
    import dspex

    with pytest.raises(dspex.DspexError) as refusal:
        async with dspex.connect("nats://127.0.0.1:1", connect_timeout_s=1):
            pass
    assert refusal.value.code in ("disconnected", "setup")


async def test_what_would_keep_a_router_busy_for_ever(raw: Nats) -> None:
    """Loops within loops with nothing to do, and pipelines of pipelines of pipelines."""
    idle = {"branch": [{"when": "false", "do": [{"sleep_s": 1}]}]}
    inner = {"loop": [idle], "until": "false", "at_most": 10_000}
    result = await ended_badly(raw, inline({"loop": [inner], "until": "false", "at_most": 10_000}), "too_much_at_once")
    assert "loops something to do" in result["error"]["message"]
    for number in range(6):
        steps = [{"pipeline": f"wide{number + 1}"}] * 30 if number < 5 else [{"sleep_s": 1}]
        await ask(raw, "dspex.v1.pipeline.put", {"definition": {"name": f"wide{number}", "steps": steps}})
    error = await refused(raw, "dspex.v1.run.wide0", {}, "invalid_pipeline", "400")
    assert "more than 20,000 steps" in error["message"]


async def test_a_quorum_of_more_items_than_there_are(raw: Nats) -> None:
    step = {"map": "items", "do": [{"native": "rough.hang"}], "join": "quorum", "quorum": 3}
    await ended_badly(raw, inline(step, items=[1, 2]), "join_failed")
