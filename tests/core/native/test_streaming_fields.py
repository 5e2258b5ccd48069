"""A reply cut anywhere gives the fields that the whole reply has."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspex_bus.signatures import parse_signature
from dspex_services.native.adapters import parse_chat_reply
from dspex_services.native.errors import ReplyError
from dspex_services.streaming import FieldReader, reader_of

CHAT = (
    "Sure!\n[[ ## reasoning ## ]]\nBecause 6 * 7\r\nis 42.\n\n  [[ ## not one\n[[ ## answer ## ]] 42, \n  [[ ## \n"
    "[[ ## reasoning ## ]]\nagain\n[[ ## completed ## ]]\nend"
)
WANTED = {"reasoning": "Because 6 * 7\nis 42.\n\n  [[ ## not one", "answer": "42,\n  [[ ##"}


def fields(reader: FieldReader, parts: Sequence[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for piece in [*(piece for part in parts for piece in reader.feed(part)), *reader.end()]:
        said[piece.field] = said.get(piece.field, "") + piece.text
    return said


def cut(text: str, places: Sequence[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 400), max_size=12)


@given(CUTS)
@example(list(range(400)))
def test_a_chat_reply_cut_anywhere(places: list[int]) -> None:
    assert fields(reader_of("chat", ["reasoning", "answer"]), cut(CHAT, places)) == WANTED


LINES = st.lists(
    st.sampled_from(
        ["[[ ## a ## ]]", "[[ ## b ## ]]", "  [[ ## a ## ]] x ", "[[ ## ", "y", " ", "", "\u2028z", "[[", "é"]
    ),
    max_size=8,
)


@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), CUTS)
def test_chat_pieces_add_up_to_the_values_that_parsing_gives(lines: list[str], end: str, places: list[int]) -> None:
    text = end.join(lines)
    try:
        values = parse_chat_reply(parse_signature("q -> a, b"), text)
    except ReplyError:
        return
    said = fields(reader_of("chat", ["a", "b"]), cut(text, places))
    assert {"a": "", "b": ""} | said == values


def test_text_comes_as_soon_as_it_cannot_be_a_header() -> None:
    reader = reader_of("chat", ["a"])
    assert reader.feed("[[ ## a ## ]]\n") == []
    assert [piece.text for piece in reader.feed("one")] == ["one"]
    assert reader.feed(" ") == []
    assert [piece.text for piece in reader.feed("two\n[[")] == [" two"]
    assert [piece.text for piece in reader.feed("x")] == ["\n[[x"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.text(max_size=20), VALUES, st.booleans(), CUTS)
@example('quote " back \\ smile \U0001f600', {"a": '}"]'}, True, list(range(400)))
def test_a_json_reply_cut_anywhere(text: str, value: Any, escaped: bool, places: list[int]) -> None:
    reply = "```json\n" + json.dumps({"text": text, "other": 1, "value": value}, ensure_ascii=escaped) + "\n```"
    said = fields(reader_of("json", ["text", "value"]), cut(reply, places))
    assert said.get("text", "") == text
    if isinstance(value, str):
        assert said.get("value", "") == value
    else:
        assert json.loads(said["value"]) == value


@given(CUTS)
@example(list(range(400)))
def test_an_xml_reply_cut_anywhere(places: list[int]) -> None:
    reply = "<think>no</think><a>\n1 &lt; 2 &amp; <b>\n</a>\n<c>x</c>"
    assert fields(reader_of("xml", ["a", "c"]), cut(reply, places)) == {"a": "1 < 2 & <b>", "c": "x"}


@pytest.mark.parametrize("layout", ["chat", "json", "xml"])
def test_a_reply_of_another_kind_gives_nothing(layout: Any) -> None:
    assert fields(reader_of(layout, ["a"]), ["no fields", " here"]) == {}


def test_plain_text_is_of_no_field() -> None:
    assert fields(reader_of("plain", []), ["as ", "it is"]) == {"": "as it is"}
    assert fields(reader_of("plain", ["a"]), ["as ", "it is"]) == {"a": "as it is"}
