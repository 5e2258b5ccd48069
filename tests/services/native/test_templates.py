"""The step ``template``: inline, from a file, from the registry; what cannot be had, and what lies outside."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from native_rig import make_step, outputs_of

from dspex_bus import Bus, EmbeddedServer, MemoryBus, NatsBus
from dspex_bus.errors import DspexError
from dspex_bus.streams import TEMPLATES, buckets, streams
from dspex_services.errors import UnknownTemplate
from dspex_services.native.template_store import StoredTemplates
from dspex_services.native.templating import templates
from dspex_services.templates import TemplateStore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    async with MemoryBus() as bus:
        await bus.prepare(streams(), buckets())
        yield bus


@pytest.fixture
def store(bus: Bus) -> TemplateStore:
    return TemplateStore(bus, clock=lambda: 12.5)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "templates"
    (found / "parts").mkdir(parents=True)
    (found / "hello.j2").write_text("{% include 'parts/head.j2' %}Hello {{ name }}\n")
    (found / "parts" / "head.j2").write_text("[{{ title }}] ")
    monkeypatch.setenv("DSPEX_TEMPLATES", str(found))
    return found


async def render(bus: Bus, constants: dict[str, Any], **inputs: Any) -> str:
    outputs = await outputs_of(templates(), "template", make_step(bus, inputs=inputs, options=constants))
    return str(outputs["text"])


async def refused(bus: Bus, constants: dict[str, Any], **inputs: Any) -> DspexError:
    with pytest.raises(DspexError) as caught:
        await render(bus, constants, **inputs)
    return caught.value


async def test_inline_as_a_constant_or_a_field(bus: Bus) -> None:
    assert await render(bus, {"template": "Hello {{ name }}"}, name="Ada") == "Hello Ada"
    assert await render(bus, {}, template="Hello {{ name }}", name="Ada") == "Hello Ada"
    assert await render(bus, {"template": "{{ template_name }}"}, template_name="a field") == "a field"


@pytest.mark.parametrize(
    ("constants", "told"),
    [
        ({}, "one of the constants template, template_file, template_name"),
        ({"template": 3}, "'template' must be a text"),
        ({"template": "x", "template_file": "y"}, "not several"),
    ],
)
async def test_one_of_three(bus: Bus, constants: dict[str, Any], told: str) -> None:
    error = await refused(bus, constants)
    assert error.code == "invalid_input"
    assert told in error.message


async def test_files_include_each_other_and_are_read_again_when_they_change(bus: Bus, folder: Path) -> None:
    constants = {"template_file": "hello.j2"}
    assert await render(bus, constants, name="Ada", title="T") == "[T] Hello Ada\n"
    part = folder / "parts" / "head.j2"
    part.write_text("<{{ title }}> ")
    os.utime(part, ns=(1, 1))
    assert await render(bus, constants, name="Ada", title="T") == "<T> Hello Ada\n"
    whole = folder / "hello.j2"
    whole.write_text("Bye {{ name }}")
    os.utime(whole, ns=(1, 1))
    assert await render(bus, constants, name="Ada") == "Bye Ada"


async def test_errors_in_files_say_which_and_where(bus: Bus, folder: Path) -> None:
    error = await refused(bus, {"template_file": "hello.j2"}, name="Ada")
    assert (error.code, error.details["template"], error.details["line"]) == ("template_failed", "parts/head.j2", 1)
    (folder / "bad.j2").write_text("fine\n{{ oh no }}")
    error = await refused(bus, {"template_file": "bad.j2"})
    assert "the template bad.j2 is wrong: line 2, column 7: " in error.message
    (folder / "around.j2").write_text("{% include 'bad.j2' %}")
    error = await refused(bus, {"template_file": "around.j2"})
    assert (error.code, error.details["template"], error.details["line"]) == ("invalid_template", "bad.j2", 2)
    assert str(folder) not in error.message
    (folder / "lonely.j2").write_text("\n{% include 'nothing.j2' %}")
    error = await refused(bus, {"template_file": "lonely.j2"})
    assert "line 2: there is no template 'nothing.j2' to include" in error.message


async def test_nothing_outside_of_the_folder(bus: Bus, folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "link.j2").symlink_to(folder.parent / "secret.txt")
    (folder / "through.j2").write_text("{% include '../secret.txt' %}")
    (folder / "linked.j2").write_text("{% include 'link.j2' ignore missing %}")
    for name in ("../secret.txt", str(folder.parent / "secret.txt"), "link.j2", "parts/../../secret.txt"):
        assert (await refused(bus, {"template_file": name})).code == "template_not_allowed"
    for name in ("through.j2", "linked.j2"):
        error = await refused(bus, {"template_file": name})
        assert error.code == "template_failed"
        assert "outside of the folder" in error.message
    for name in ("nothing.j2", "parts", "a\0b", ""):
        assert (await refused(bus, {"template_file": name})).code == "unknown_template"


async def test_no_folder_no_files(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DSPEX_TEMPLATES", raising=False)
    error = await refused(bus, {"template_file": "hello.j2"})
    assert error.code == "templates_not_configured"
    error = await refused(bus, {"template": "{% include 'hello.j2' %}"})
    assert error.code == "template_failed"


async def test_versions_by_content(store: TemplateStore) -> None:
    first = await store.put("greeting", "Hello {{ name }}", note="n")
    assert (first.version, first.created_ms, first.size, first.variables, first.note) == (1, 12500, 16, ("name",), "n")
    assert await store.put("greeting", "Hello {{ name }}") == first
    second = await store.put("greeting", "Bye {{ name }}")
    again = await store.put("greeting", "Hello {{ name }}")
    assert (second.version, again.version, again.digest) == (2, 3, first.digest)
    assert [one.name for one in await store.list()] == ["greeting"]
    for wanted, version in (("greeting", 3), ("greeting@2", 2), (f"greeting@{second.digest}", 2)):
        assert (await store.version(wanted)).version == version
    assert await store.content("greeting", second.digest) == "Bye {{ name }}"


async def test_deleting(store: TemplateStore) -> None:
    first = await store.put("t", "one")
    await store.put("t", "two")
    await store.put("t", "one")
    assert [gone.version for gone in await store.delete("t@3")] == [3]
    assert await store.content("t", first.digest) == "one"
    assert (await store.put("t", "three")).version == 4
    assert [gone.version for gone in await store.delete("t@2")] == [2]
    assert len(await store.delete("t")) == 2
    assert await store.list() == []
    for call in (store.delete("t"), store.get("t"), store.version("t"), store.content("t", first.digest)):
        with pytest.raises(UnknownTemplate):
            await call


@pytest.mark.parametrize(
    ("name", "source", "code"),
    [
        ("a.b", "x", "invalid_name"),
        ("", "x", "invalid_name"),
        ("t", "{{", "invalid_template"),
        ("t", "x" * 300_000, "invalid_template"),
    ],
)
async def test_what_is_not_stored(store: TemplateStore, name: str, source: str, code: str) -> None:
    with pytest.raises(DspexError) as caught:
        await store.put(name, source)
    assert caught.value.code == code
    assert await store.list() == []


@pytest.mark.parametrize("wanted", ["t@", "t@0", "t@latest", "t@sha256:12", "t@1@2"])
async def test_what_names_no_version(store: TemplateStore, wanted: str) -> None:
    with pytest.raises(DspexError) as caught:
        await store.version(wanted)
    assert caught.value.code == "invalid_name"


async def test_writers_at_once_all_get_a_version(server: EmbeddedServer) -> None:
    async with NatsBus(server.url, name="templates") as bus:
        await bus.prepare(streams(), buckets())
        store = TemplateStore(bus)
        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(store.put, "t", f"text {number}")
        versions = (await store.get("t")).versions
        assert [one.version for one in versions] == list(range(1, 7))
        assert {await store.content("t", one.digest) for one in versions} == {f"text {number}" for number in range(6)}
        await store.delete("t")
        assert await bus.key_value(TEMPLATES).keys() == []


async def test_stored_templates_as_a_step(bus: Bus, store: TemplateStore) -> None:
    await store.put("head", "[{{ title }}] ")
    await store.put("hello", "{% include 'head' %}Hello {{ name }}")
    await store.put("hello", "{% include 'head@1' %}Bye {{ name }}")
    assert await render(bus, {"template_name": "hello@1"}, name="Ada", title="T") == "[T] Hello Ada"
    assert await render(bus, {"template_name": "hello"}, name="Ada", title="T") == "[T] Bye Ada"
    error = await refused(bus, {"template_name": "hello@7"})
    assert error.code == "unknown_template"
    assert "there are: 1, 2" in error.message
    error = await refused(bus, {"template_name": "hello"}, title="T")
    assert (error.code, error.details["template"]) == ("template_failed", "hello")
    await store.put("dynamic", "{% include which %}")
    assert "constant names only" in (await refused(bus, {"template_name": "dynamic"})).message
    await store.put("self", "{{ n }}{% if n %}{% set n = n - 1 %}{% include 'self' %}{% endif %}")
    assert await render(bus, {"template_name": "self"}, n=2) == "210"


async def test_a_worker_follows_a_new_version_and_keeps_what_it_has_read(bus: Bus, store: TemplateStore) -> None:
    stored = StoredTemplates()
    await store.put("t", "one")
    assert (await stored.get(bus, "t")).render({}) == "one"
    await store.put("t", "two")
    with anyio.fail_after(5):
        while (await stored.get(bus, "t")).render({}) != "two":
            await anyio.sleep(0.05)
