"""``dspex templates`` against a running system, as a person uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .conftest import RunningSystem
from .processes import dspex_here


def test_put_list_show_use_delete(running: RunningSystem, tmp_path: Path) -> None:
    def told(*arguments: str, code: int = 0, input: str = "") -> Any:
        done = dspex_here(*arguments, "--json", environment=running.environment, input=input)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    file = tmp_path / "hello.j2"
    file.write_text("Hello {{ name }}!\n")
    assert told("templates", "put", "hello", str(file), "--note", "first")["version"] == 1
    assert told("templates", "put", "hello", "-", input="Bye {{ name }}")["version"] == 2
    refused = told("templates", "put", "hello", "-", input="one\n{{ a b }}", code=1)["error"]
    assert (refused["code"], refused["details"]["line"], refused["details"]["column"]) == ("invalid_template", 2, 6)
    assert [one["name"] for one in told("templates", "list")["templates"]] == ["hello"]
    assert told("templates", "show", "hello@1")["source"] == "Hello {{ name }}!\n"
    assert len(told("templates", "show", "hello", "--versions")["template"]["versions"]) == 2
    plain = dspex_here("templates", "show", "hello@1", environment=running.environment)
    assert plain.stdout == "Hello {{ name }}!\n"
    for wanted, text in (("hello@1", "Hello Ada!\n"), ("hello", "Bye Ada")):
        used = told("call", "template", "--with", f"template_name={wanted}", "name=Ada")
        assert used["outputs"]["text"] == text
    assert len(told("templates", "delete", "hello")["deleted"]) == 2
    assert told("templates", "show", "hello", code=1)["error"]["code"] == "unknown_template"


def test_files_in_the_folder_that_was_named_at_the_start(running: RunningSystem) -> None:
    def told(name: str) -> Any:
        line = ("call", "template", "--with", f"template_file={name}", "name=Ada", "--json")
        return json.loads(dspex_here(*line, environment=running.environment).stdout)

    assert told("hello.j2")["outputs"]["text"] == "Dear Ada, welcome.\n"
    assert told("../conftest.py")["error"]["code"] == "template_not_allowed"
    assert told("other.j2")["error"]["code"] == "unknown_template"
