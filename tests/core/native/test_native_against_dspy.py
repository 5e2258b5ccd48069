"""Our prompts and replies against DSPy's own, over generated signatures, values, demos and replies."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
import random
import re
import uuid
from typing import Any

import pytest

from dspex_bus.signatures import Mismatch, Signature, annotation, coercer, parse_signature
from dspex_bus.signatures import types as t
from dspex_services.native.adapters import (
    chat_messages,
    json_messages,
    parse_chat_reply,
    parse_json_reply,
    response_schema,
)
from dspex_services.native.errors import ReplyError

dspy = pytest.importorskip("dspy")
import pydantic  # noqa: E402
from dspy.adapters.json_adapter import (  # noqa: E402
    _get_structured_outputs_response_format,
    _has_open_ended_mapping,
)

from dspex_services.dspy.signatures import to_dspy  # noqa: E402

CASES = 150
MANY = 4000
EXAMPLES: dict[str, Any] = {"int[ge=0, le=10]": 7, "list[int[ge=0]][min_items=1]": [0]}
# fmt: off
WORDS = [
    "", " ", "plain", "two\nlines", "«quoted»", "héllo wörld", '{"a": 1}', "'single'", 'a "b"', "[[ ## x ## ]]", "0",
    "None", "a\n\n  indented\n", "tab\there", "emoji 🎉", "true", "3", "  padded  ", "back\\slash", "a, b -> c"
]
FIELD_NAMES = [
    "question", "context", "answer", "score", "tags", "when", "größe", "x1",
    "items", "label", "note", "total",
]
SCALARS = [
    "str", "int", "float", "bool", "datetime.date", "datetime.datetime", "Any", "uuid.UUID", "decimal.Decimal",
    "datetime.time",
]
LITERALS = [
    "Literal['x', 'y']", "Literal['only']", "Literal[1, 2]", "Literal['a', 1, None]", "Literal[True]",
    "Literal['it\\'s', '\"q\"']"
]
INSTRUCTIONS = [
    None, "", "Answer briefly.", "First line.\n    Second line.\n      Third.", "\n    Indented\n      more\n",
    "Ünïcode «x»\t."
]
REPLIES = [
    "True", "yes", "null", "42", "3.0", "3.5", " 7 ", "1,000", "[1, 2]", "['a', 'b']", "[1, 2,]", '{"a": 1}',
    "{'a': [1]}", "2024-05-31", "2024-05-31T10:00:00", "2024-05-31T10:00:00Z", "x", '"x"', "Literal['x']", "'y'",
    "only", "", "-0", "1e3", "```json\n[1]\n```", "The answer is [1, 2].", "(1, 'a')", "{1, 2}", "12:30", "007",
    "+5", "NaN", "None", "a\nb", '["1", "2"]', "false", "0", "1", "[true]", '{"1": "2"}', "[[1], [2]]", "[null]",
    "00000000-0000-0000-0000-000000000005", "1.50", "it's"
]
# fmt: on
LIMITED = [
    "int[ge=0, le=10]",
    "float[gt=-3, lt=1e9]",
    "int[multiple_of=5]",
    "str[max_length=40]",
    "str[min_length=1, pattern='a|e|l|o']",
    "list[str][max_items=5]",
    "list[int[ge=0]][min_items=1]",
    "dict[str, int[le=3]][max_items=2]",
    "set[int][min_items=1]",
]
DEFAULTED = [
    "int = 3",
    "int[ge=1] = 1",
    "str = 'it\\'s'",
    "list[str] = ['a', 'b']",
    "dict[str, int] = {'a': 1}",
    "float | None = None",
    "bool = False",
    "datetime.date = '2024-05-31'",
    "Literal['x', 'y'] = 'y'",
]
GENERIC = ["list[int]", "list[str]", "dict[str, int]", "Optional[int]", "Optional[str]"]


class Maker:
    """Signatures, and values that fit them, from one seed."""

    def __init__(self, seed: int, *, plain: bool = False) -> None:
        self.random = random.Random(seed)
        self.plain = plain  # only what DSPy's own strings can say
        self.records = 0

    def type_text(self, depth: int = 2, key: bool = False) -> str:
        r = self.random
        if depth == 0 or key or r.random() < 0.4:
            return r.choice([*SCALARS[: 5 if key else None], *([] if key else LITERALS)])
        kind = r.choice(
            [
                "list",
                "dict",
                "optional",
                "union",
                "tuple",
                "open",
                "set",
                "bare",
                *([] if self.plain else ["record", "limited"]),
            ]
        )
        inner = self.type_text(depth - 1)
        match kind:
            case "list":
                return f"list[{inner}]"
            case "dict":
                return f"dict[{self.type_text(0, key=True)}, {inner}]"
            case "optional":
                return f"Optional[{inner}]"
            case "union":
                return f"{inner} | {self.type_text(depth - 1)}"
            case "tuple":
                return f"tuple[{inner}, {self.type_text(depth - 1)}]"
            case "open":
                return f"tuple[{inner}, ...]"
            case "set":
                return f"set[{self.type_text(0, key=True)}]"
            case "record":
                return self.record(depth)
            case "limited":
                return r.choice(LIMITED)
        return r.choice(["list", "dict", "tuple"])

    def record(self, depth: int) -> str:
        """A struct of a name of its own: DSPy has no way to tell two of one name apart."""
        self.records += 1
        number = self.records
        names = self.random.sample(FIELD_NAMES, self.random.randint(1, 3))
        fields = ", ".join(f"{name}: {self.type_text(depth - 1)}{self.rest(name)}" for name in names)
        return f"Made{number}{{{self.description()}{fields}}}"

    def description(self) -> str:
        return f"{t.quote(self.random.choice(WORDS[1:]).strip() or 'x')} " if self.random.random() < 0.3 else ""

    def rest(self, name: str) -> str:
        return f" {self.description()}"

    def field(self, name: str) -> str:
        choice = self.random.random()
        if choice < 0.3:
            return name
        described = f" {t.quote(self.random.choice(WORDS))}" if self.random.random() < 0.2 else ""
        if choice < 0.45:
            return f"{name}: str{described}"
        if choice < 0.55 and not self.plain:
            return f"{name}: {self.random.choice(DEFAULTED)}{described}"
        return f"{name}: {self.type_text()}{described}"

    def signature(self) -> Signature:
        r = self.random
        names = r.sample(FIELD_NAMES, r.randint(2, 6))
        cut = r.randint(1, len(names) - 1)
        text = f"{', '.join(map(self.field, names[:cut]))} -> {', '.join(map(self.field, names[cut:]))}"
        return parse_signature(text, r.choice(INSTRUCTIONS))

    def value(self, kind: t.Type) -> Any:
        r = self.random
        match kind:
            case t.Scalar(name=name):
                return self.scalar(name)
            case t.Choice(values=values):
                return r.choice(values)
            case t.AnyOf(members=members):
                return self.value(r.choice(members))
            case t.FixedTuple(items=items):
                return tuple(map(self.value, items))
            case t.Mapping(key=key, value=item):
                return {self.value(key or t.STR): self.value(item or t.STR) for _ in range(r.randint(0, 3))}
            case t.Array(kind=name, item=item):
                made = [self.value(item or t.STR) for _ in range(r.randint(0, 3))]
                return {"list": list, "tuple": tuple, "set": set}[name](made)
            case t.Constrained():
                return self.within(kind)
            case t.Record(fields=fields):
                return {field.name: self.value(field.type) for field in fields}
        raise AssertionError(kind)

    def within(self, kind: t.Constrained) -> Any:
        """A value that keeps to the limits: they are such that one comes up soon."""
        fit = coercer(kind)
        for _ in range(200):
            made = self.value(kind.base)
            try:
                return fit(made)
            except Mismatch:
                continue
        return EXAMPLES[str(kind)]

    def scalar(self, name: str) -> Any:
        r = self.random
        if name == "datetime.datetime":
            return dt.datetime(2024, r.randint(1, 12), 3, 4, 5, 6, r.choice([0, 250]), tzinfo=r.choice([None, dt.UTC]))
        return {
            "str": lambda: r.choice(WORDS),
            "Any": lambda: r.choice([*WORDS, 3, None, [1, "a"]]),
            "int": lambda: r.choice([0, 1, -5, 10**20]),
            "float": lambda: r.choice([0.0, 1.5, -2.25, 1e22, 3.0]),
            "bool": lambda: r.random() < 0.5,
            "None": lambda: None,
            "datetime.date": lambda: dt.date(2024, r.randint(1, 12), 3),
            "datetime.time": lambda: dt.time(r.randint(0, 23), 30),
            "uuid.UUID": lambda: uuid.UUID(int=r.getrandbits(128)),
            "decimal.Decimal": lambda: decimal.Decimal(r.choice(["1.50", "-3", "0"])),
        }[name]()

    def values(self, fields: tuple[Any, ...], leave_out: float = 0.0) -> dict[str, Any]:
        return {f.name: self.input(f) for f in fields if self.random.random() >= leave_out}

    def input(self, field: Any) -> Any:
        if not field.typed and self.random.random() < 0.3:
            return [self.random.choice(WORDS) for _ in range(self.random.randint(0, 3))]
        return self.value(field.type)

    def demos(self, signature: Signature) -> list[dict[str, Any]]:
        leave_out = self.random.choice([0.0, 0.0, 0.5])
        made = [self.values(signature.inputs + signature.outputs, leave_out) for _ in range(self.random.randint(0, 3))]
        return made + ([{**made[0], signature.output_names[0]: None}] if made else [])


def theirs(signature: Signature) -> Any:
    """DSPy's signature class for ours."""
    return to_dspy(signature)


def bare(value: Any) -> Any:
    """DSPy's objects as ours: a dict of their fields."""
    if isinstance(value, pydantic.BaseModel):
        return {name: bare(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {key: bare(part) for key, part in value.items()}
    return [bare(part) for part in value] if type(value) is list else value


def same(ours: Any, other: Any) -> bool:
    """Equal values of equal types, all the way down; NaN is NaN."""
    other = bare(other)
    if isinstance(ours, float) and isinstance(other, float) and math.isnan(ours):
        return math.isnan(other)
    if type(ours) is not type(other):
        return False
    if isinstance(ours, dict):
        return list(ours) == list(other) and all(same(ours[key], other[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(other) and all(map(same, ours, other))
    return bool(ours == other)


def outcome(call: Any, error: type[Exception]) -> Any:
    try:
        return call()
    except error:
        return error


def limited(signature: Signature, parsed: Any) -> Any:
    """What DSPy makes of a reply, refused where a field's own limits, which it does not check, are not kept."""
    if not isinstance(parsed, dict):
        return parsed
    for field in signature.outputs:
        try:
            if isinstance(field.type, t.Constrained):
                coercer(field.type)(parsed[field.name])
        except Mismatch:
            return dspy.AdapterParseError
    return parsed


def check_messages(seed: int) -> None:
    maker = Maker(seed)
    signature = maker.signature()
    inputs, demos = maker.values(signature.inputs, leave_out=0.1), maker.demos(signature)
    variants = [(signature, theirs(signature))]
    if seed % 3 == 0 and "reasoning" not in signature.output_names:
        variants.append((signature.with_reasoning(), dspy.ChainOfThought(theirs(signature)).predict.signature))
    for ours, other in variants:
        assert chat_messages(ours, inputs, demos) == dspy.ChatAdapter().format(other, demos, inputs), ours.text
        assert json_messages(ours, inputs, demos) == dspy.JSONAdapter().format(other, demos, inputs), ours.text


def check_replies(seed: int) -> None:
    maker = Maker(seed)
    signature = maker.signature()
    other = theirs(signature)
    values = maker.values(signature.outputs)
    mixed = {name: maker.random.choice(REPLIES) for name in signature.output_names}
    chat, jsons = dspy.ChatAdapter(), dspy.JSONAdapter()
    for parse, adapter, texts in (
        (
            parse_chat_reply,
            chat,
            [
                chat.format_assistant_message_content(other, values),
                "Sure!\n" + "\n\n".join(f"[[ ## {name} ## ]] {said}" for name, said in mixed.items()),
                "\r\n".join(f"[[ ## {name} ## ]]\r\n{said}\r\n" for name, said in list(mixed.items())[1:]),
                "no fields at all",
            ],
        ),
        (
            parse_json_reply,
            jsons,
            [
                jsons.format_assistant_message_content(other, values),
                "```json\n" + json.dumps(mixed) + "\n```",
                "Here: " + repr(mixed) + " done",
                json.dumps(mixed)[:-2],
                "nothing {",
            ],
        ),
    ):
        for text in texts:
            parsed = outcome(lambda text=text: adapter.parse(other, text), dspy.AdapterParseError)  # noqa: B023
            expected = limited(signature, parsed)
            got = outcome(lambda text=text: parse(signature, text), ReplyError)  # noqa: B023
            both = got is ReplyError and expected is dspy.AdapterParseError
            assert both or same(got, expected), (signature.text, text, got, expected)


@pytest.mark.parametrize("seed", range(CASES))
def test_the_messages_are_byte_for_byte_dspys(seed: int) -> None:
    check_messages(seed)


@pytest.mark.parametrize("seed", range(CASES))
def test_replies_give_equal_values_or_both_refuse(seed: int) -> None:
    check_replies(seed)


def check_schemas(seed: int) -> None:
    check_schema(Maker(seed).signature())


def check_schema(signature: Signature) -> None:
    wanted: Any = {}
    other = theirs(signature)
    if not _has_open_ended_mapping(other):
        wanted = _get_structured_outputs_response_format(other, False).model_json_schema()
    assert json.loads(json.dumps(response_schema(signature))) == json.loads(json.dumps(wanted)), signature.text


@pytest.mark.parametrize("seed", range(CASES))
def test_the_schema_of_a_json_reply_is_dspys(seed: int) -> None:
    check_schemas(seed)


@pytest.mark.parametrize(
    "kind", ["Made{a: int}", "Made{a: int} | None", "Made{a: int} | int", "Made{a: In{b: str} | None}"]
)
def test_records_have_titles_of_their_own(kind: str) -> None:
    signature = parse_signature(f"q -> a: {kind}")
    check_schema(signature)
    assert json_messages(signature, {"q": ""}) == dspy.JSONAdapter().format(theirs(signature), [], {"q": ""})


_DAMAGE = [
    *("[[ ## ", "## ]]", "\n", "\r\n", "```json\n", "```", "{", "}", "[", "]", '"', "'", ",", " : ", "  ", "\\", "\\n"),
    *("null", "None", "True", "NaN", "1e5", "0x1f", "-", "//c\n", "\u2028", "\x00", "\x1c", "«", "\ud83d", "٣"),
    *("[[ ## completed ## ]]", "[[ ## bogus ## ]]\nx\n", "<think>x</think>"),
]
_INDENTED = re.compile(r"^[^\S\n]+\[\[ ## \w+ ## \]\]", re.MULTILINE)


def damaged(text: str, chance: random.Random) -> str:
    """A few characters lost, put in or written twice, or the end cut off."""
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(text))
        to = min(len(text), at + chance.randint(0, 12))
        match chance.choice(["lose", "lose", "put", "put", "put", "cut", "twice"]):
            case "lose":
                text = text[:at] + text[to:]
            case "put":
                text = text[:at] + chance.choice(_DAMAGE) + text[at:]
            case "cut":
                text = text[:at]
            case "twice":
                text = text[:to] + text[at:]
    return text


def check_damaged(seed: int) -> None:
    maker = Maker(seed)
    signature = maker.signature()
    other = theirs(signature)
    values = maker.values(signature.outputs)
    for parse, adapter in ((parse_chat_reply, dspy.ChatAdapter()), (parse_json_reply, dspy.JSONAdapter())):
        whole = adapter.format_assistant_message_content(other, values)
        for _ in range(4):
            text = damaged(whole, maker.random)
            if _INDENTED.search("\n".join(text.splitlines())):
                continue  # see the test of headers after blanks
            expected = limited(signature, outcome(lambda: adapter.parse(other, text), Exception))  # noqa: B023
            got = outcome(lambda: parse(signature, text), ReplyError)  # noqa: B023
            both = got is ReplyError and expected in (Exception, dspy.AdapterParseError)
            assert both or same(got, expected), (signature.text, text, got, expected)


@pytest.mark.parametrize("seed", range(CASES))
def test_damaged_replies_give_equal_values_or_both_refuse(seed: int) -> None:
    check_damaged(seed)


def test_a_header_after_blanks_is_no_part_of_the_value() -> None:
    """DSPy cuts such a line at the wrong place, and the value begins with what is left of the header."""
    text = "  [[ ## answer ## ]] blue\n\n[[ ## completed ## ]]"
    assert dspy.ChatAdapter().parse(dspy.Signature("q -> answer"), text) == {"answer": "]] blue"}
    assert parse_chat_reply(parse_signature("q -> answer"), text) == {"answer": "blue"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("check", [check_messages, check_replies, check_schemas, check_damaged])
def test_thousands_more(check: Any) -> None:
    for seed in range(CASES, MANY):
        check(seed)


@pytest.mark.parametrize("reply", REPLIES)
@pytest.mark.parametrize("kind", [*SCALARS, *LITERALS, *GENERIC])
def test_each_reply_for_each_type(reply: str, kind: str) -> None:
    signature = parse_signature(f"q -> a: {kind}")
    text = f"[[ ## a ## ]]\n{reply}\n\n[[ ## completed ## ]]"
    expected = outcome(lambda: dspy.ChatAdapter().parse(theirs(signature), text), dspy.AdapterParseError)
    got = outcome(lambda: parse_chat_reply(signature, text), ReplyError)
    assert same(got, expected) or (got is ReplyError and expected is dspy.AdapterParseError), (got, expected)


@pytest.mark.parametrize("seed", range(CASES))
def test_dspys_own_parser_reads_the_same_types(seed: int) -> None:
    signature = Maker(seed, plain=True).signature()
    plain = " -> ".join(
        ", ".join(f"{field.name}: {field.type}" for field in side) for side in (signature.inputs, signature.outputs)
    )
    if "Literal[-" in plain or "->" in plain.replace(" -> ", "", 1):
        pytest.skip("DSPy's parser does not read this")
    parsed = dspy.Signature(plain)
    for field in signature.inputs + signature.outputs:
        assert parsed.fields[field.name].annotation == annotation(field.type, getattr)
