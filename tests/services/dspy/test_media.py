"""Pictures, recordings and documents: from any client to the model's wire, by value and by reference."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nats
import pytest
from dspy_system import System
from pictures import BLUE, PDF, RED, wav
from scripted_server import Answer, ScriptedServer, Seen, playing

import dspex
from dspex_bus.streams import OBJECTS
from dspex_services.native.models import Models
from dspex_services.native.pool import native_handlers
from dspex_services.offline_lm import MODEL

pytestmark = pytest.mark.anyio

OFFLINE = f"openai/{MODEL}"
LOOK = "image: dspy.Image, question -> answer"
COLOUR = "What is the colour of the picture?"


CHAT = json.dumps({"answer": "Seen."})
REPLIES = {
    "openai": {"choices": [{"message": {"content": CHAT}, "finish_reason": "stop"}], "model": "m"},
    "anthropic": {"content": [{"type": "text", "text": CHAT}], "model": "m", "stop_reason": "end_turn"},
}


def uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
async def wire() -> AsyncIterator[ScriptedServer]:
    def script(_: int, seen: Seen) -> Answer:
        return Answer([json.dumps(REPLIES["anthropic" if seen.path.endswith("/messages") else "openai"]).encode()])

    async with playing(script) as server:
        yield server


@pytest.fixture
def model_environment(offline_url: str, wire: ScriptedServer, tmp_path: Path) -> dict[str, str]:
    """Models named ``m`` are the wire that tests look at, of either protocol."""
    table = tmp_path / "models.json"
    table.write_text(json.dumps({"*/m": {"base_url": wire.url}, "*": {"base_url": offline_url}}))
    return {"DSPEX_MODEL": "openai/m", "DSPEX_MODELS": str(table)}


@pytest.fixture
def modules() -> list[str]:
    return ["dspy_shapes:Gallery"]


# --- answers are a function of the bytes ---------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_a_picture_is_looked_at(system: System, provider: str) -> None:
    model = f"{provider}/{MODEL}"
    for picture, colour in ((RED, "red"), (BLUE, "blue")):
        shown = {"image": uri("image/png", picture), "question": COLOUR}
        found = await system.step("dspy.Predict", shown, signature=LOOK, model=model)
        assert f"its colour is {colour}" in found["answer"]
    sound, text = uri("audio/mpeg", wav(1.5)), uri("text/plain", b"The lease lasts 10 seconds.")
    read = {"file": text, "question": "How long does the lease last?"}
    found = await system.step("dspy.Predict", read, signature="file: dspy.File, question -> answer", model=model)
    assert "10 seconds" in found["answer"]
    heard = {"sound": sound, "question": "How long does the recording last?"}
    heard_as = {"signature": "sound: dspy.Audio, question -> answer", "model": model}
    if provider == "openai":
        found = await system.step("dspy.Predict", heard, **heard_as)
        assert "1.5 seconds" in found["answer"]
    else:
        error = await system.refused("dspy.Predict", heard, **heard_as)
        assert "no recordings" in error.message


async def test_a_module_of_several_predictors_is_given_pictures(system: System) -> None:
    await system.client.bus.objects(OBJECTS).put("red", RED)
    found = await system.step("dspy_shapes.Gallery", {"image": {"$object": "red"}, "question": COLOUR}, model=OFFLINE)
    assert "its colour is red" in found["answer"]


async def test_each_of_many(system: System) -> None:
    await system.client.bus.objects(OBJECTS).put("red", RED)
    examples = [{"image": one, "question": COLOUR} for one in ({"$object": "red"}, uri("image/png", BLUE))]
    found = await system.step("dspy.Parallel", {}, signature=LOOK, examples=examples, model=OFFLINE)
    assert [("red" in one["answer"], "blue" in one["answer"]) for one in found["predictions"]] == [
        (True, False),
        (False, True),
    ]


# --- what reaches the wire -----------------------------------------------------------------------------


def parts(wire: ScriptedServer) -> list[dict[str, Any]]:
    """Of the last turn, without its texts."""
    content = wire.seen[-1].body["messages"][-1]["content"]
    return [part for part in content if part["type"] != "text"]


IMAGES = [
    ({"$object": "red"}, uri("image/png", RED)),
    ({"$object": "red", "media_type": "image/x"}, uri("image/x", RED)),
    (uri("image/png", BLUE), uri("image/png", BLUE)),
    ({"url": uri("image/png", BLUE)}, uri("image/png", BLUE)),
    ("https://pictures.example/a.png", "https://pictures.example/a.png"),
]


@pytest.mark.parametrize(("given", "sent"), IMAGES)
async def test_the_bytes_of_an_image(system: System, wire: ScriptedServer, given: Any, sent: str) -> None:
    await system.client.bus.objects(OBJECTS).put("red", RED)
    for model in ("openai/m", "anthropic/m"):
        await system.step(
            "dspy.Predict", {"image": given, "question": "?"}, signature=LOOK, adapter="json", model=model
        )
    first, second = (seen.body["messages"][-1]["content"][1] for seen in wire.seen)
    assert first == {"type": "image_url", "image_url": {"url": sent}}
    if sent.startswith("data:"):
        kind, _, data = sent.removeprefix("data:").partition(";base64,")
        assert second == {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
    else:
        assert second == {"type": "image", "source": {"type": "url", "url": sent}}


async def test_images_in_lists_in_demos_and_in_what_was_said_before(system: System, wire: ScriptedServer) -> None:
    await system.client.bus.objects(OBJECTS).put("red", RED)
    given = {
        "images": [{"$object": "red"}, uri("image/png", BLUE)],
        "past": {"messages": [{"images": [{"$object": "red"}], "question": "Which?", "answer": "Red."}]},
        "question": "And now?",
    }
    signature = "images: list[dspy.Image], past: dspy.History, question -> answer"
    for adapter in ("json", "chat", "xml"):
        await system.step("dspy.Predict", given, signature=signature, adapter=adapter)
        turns = [json.dumps(turn["content"]) for turn in wire.seen[-1].body["messages"] if turn["role"] == "user"]
        assert [(turn.count(encoded(RED)), turn.count(encoded(BLUE))) for turn in turns] == [(1, 0), (1, 1)], adapter
        assert [part["type"] for part in parts(wire)] == ["image_url", "image_url"]
    demo = {"images": [{"$object": "red"}], "question": "Which?", "answer": "Red."}
    del given["past"]
    shown = "images: list[dspy.Image], question -> answer"
    await system.step("dspy.Predict", given, signature=shown, adapter="json", demos=[demo])
    turns = [json.dumps(turn["content"]) for turn in wire.seen[-1].body["messages"] if turn["role"] == "user"]
    assert [turn.count(encoded(RED)) for turn in turns] == [1, 1]
    mapped = "album: dict[str, dspy.Image], cover: Optional[dspy.Image] -> answer"
    await system.step(
        "dspy.Predict",
        {"album": {"a": {"$object": "red"}}, "cover": uri("image/png", BLUE)},
        signature=mapped,
        adapter="json",
    )
    assert len(parts(wire)) == 2


async def test_recordings_and_documents(system: System, wire: ScriptedServer) -> None:
    objects = system.client.bus.objects(OBJECTS)
    await objects.put("voice", wav(0.1))
    await objects.put("paper", PDF)
    signature = "voice: dspy.Audio, paper: dspy.File, question -> answer"
    given = {"voice": {"$object": "voice"}, "paper": {"$object": "paper"}, "question": "?"}
    await system.step("dspy.Predict", given, signature=signature, adapter="json")
    assert parts(wire) == [
        {"type": "input_audio", "input_audio": {"data": encoded(wav(0.1)), "format": "wav"}},
        {"type": "file", "file": {"filename": "document.pdf", "file_data": uri("application/pdf", PDF)}},
    ]
    # As OpenAI's API spells them: the name is not sent, and "mpeg" is what the rest of the world calls "mp3".
    given = {"voice": {"data": "aGk=", "audio_format": "mpeg"}, "question": "?"}
    given["paper"] = {"file_data": uri("application/pdf", PDF), "filename": "report.pdf"}
    await system.step("dspy.Predict", given, signature=signature, adapter="json")
    assert [part.get("input_audio", {}).get("format") for part in parts(wire)] == ["mp3", None]
    paper = {"paper": {"$object": "paper"}, "question": "?"}
    await system.step(
        "dspy.Predict", paper, signature="paper: dspy.File, question -> answer", adapter="json", model="anthropic/m"
    )
    source = {"type": "base64", "media_type": "application/pdf", "data": encoded(PDF)}
    assert parts(wire) == [{"type": "document", "source": source}]


async def test_what_is_no_image_is_refused_before_the_model_is_asked(system: System, wire: ScriptedServer) -> None:
    for given in (
        "/etc/passwd",
        "file:///etc/passwd",
        {"path": "/etc/passwd"},
        7,
        {"$object": "lost"},
        {"url": "x", "download": True},
    ):
        error = await system.refused("dspy.Predict", {"image": given, "question": "?"}, signature=LOOK, adapter="json")
        assert error.code in ("invalid_input", "unknown_object"), given
    assert not wire.seen


# --- from any client -----------------------------------------------------------------------------------


async def test_a_client_without_our_library(
    system: System, wire: ScriptedServer, model_environment: dict[str, str]
) -> None:
    """One object in the store, named in a direct call and in a durable run; both routed here by the image's type."""
    await system.serve(native_handlers(Models(model_environment)), "native")
    connection = await nats.connect(system.url)
    try:
        store = await connection.jetstream().object_store("dspex_objects")
        await store.put("picture", RED)
        constants = {"signature": LOOK, "adapter": "json"}
        asked = {"with": constants, "inputs": {"image": {"$object": "picture"}, "question": "?"}}
        said = json.loads(
            (await connection.request("dspex.v1.call.predict", json.dumps(asked).encode(), timeout=20)).data
        )
        assert said["outputs"] == {"answer": "Seen."}, said
        assert parts(wire)[0]["image_url"]["url"] == uri("image/png", RED)
        message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": {"$object": "picture"}}}]}
        spoken = await system.client.call("lm", inputs={"messages": [message]}, constants={"model": "anthropic/m"})
        assert spoken.text == CHAT
        assert parts(wire)[0]["source"]["data"] == encoded(RED)
    finally:
        await connection.close()


async def test_a_conversation_keeps_references(system: System, wire: ScriptedServer) -> None:
    """What is remembered is the name of a picture; the model is shown it again with each turn."""
    await system.client.bus.objects(OBJECTS).put("red", RED)
    step = dspex.module("dspy.Predict", signature=LOOK, adapter="json", remember=True)
    pipeline = dspex.pipeline([step], name="talk")
    for place in range(2):
        given = {"image": {"$object": "red"}, "question": f"{place}?"}
        await system.client.run(pipeline, given, thread="talk", timeout_s=20)
    assert json.dumps(wire.seen[-1].body["messages"]).count(encoded(RED)) == 2
    kept = await system.client.threads.get("talk")
    assert encoded(RED) not in repr(kept)


async def test_histories_and_texts_by_reference(system: System, wire: ScriptedServer) -> None:
    """A history whose pictures are references in turn; a text, a list, and what is not what it says."""
    objects = system.client.bus.objects(OBJECTS)
    past = {"messages": [{"image": {"$object": "red"}, "question": "Which?", "answer": "Red."}]}
    await objects.put("red", RED)
    await objects.put("past", json.dumps(past).encode())
    await objects.put("long", b"A long text.")
    await objects.put("names", b'["Ada", "Kurt"]')
    await objects.put("round", b'{"$object": "round"}')
    signature = "image: dspy.Image, past: dspy.History, text, names: list[str] -> answer"
    given = {"image": uri("image/png", BLUE), "past": {"$object": "past"}}
    given |= {"text": {"$object": "long"}, "names": {"$object": "names"}}
    await system.step("dspy.Predict", given, signature=signature, adapter="json")
    before, now = (json.dumps(turn["content"]) for turn in wire.seen[-1].body["messages"] if turn["role"] == "user")
    assert (before.count(encoded(RED)), now.count(encoded(BLUE))) == (1, 1)
    assert "A long text." in now
    assert "Ada" in now
    for wrong in ({"$object": "round"}, {"$object": "red", "media_type": "text/plain"}):
        error = await system.refused("dspy.Predict", {**given, "text": wrong}, signature=signature, adapter="json")
        assert error.code in ("unknown_object", "invalid_input")
