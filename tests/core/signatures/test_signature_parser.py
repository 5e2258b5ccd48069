"""The signature parser: what it reads, what it refuses and where it points."""

from __future__ import annotations

import keyword
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspex_bus.errors import InvalidRequest
from dspex_bus.signatures import Field, Signature, SignatureError, parse_signature
from dspex_bus.signatures import types as t
from dspex_bus.signatures.cursor import MAX_DEPTH
from dspex_bus.signatures.faults import RESERVED
from dspex_bus.signatures.parser import MAX_LENGTH, parse_fields
from dspex_bus.wire import error_from, error_info

ACCEPTED = [
    ("question -> answer", "question -> answer"),
    ("  question->answer  ", "question -> answer"),
    ("question: str -> answer", "question: str -> answer"),
    ("a: int, b: list[str] -> c: Literal['x','y'], d: Optional[float]", None),
    ("a: List[Dict[str, Any]] -> b: Tuple[int, ...]", "a: list[dict[str, Any]] -> b: tuple[int, ...]"),
    ("a: typing.Optional[int], -> b: None | int,", "a: int | None -> b: None | int"),
    ("a: Union[int, Union[str, int], None] -> b", "a: int | str | None -> b"),
    ("a: Union[int] -> b: Optional[None] | str", "a: int -> b: None | str"),
    ("a: datetime.date, b: date, c: uuid.UUID -> d", "a: datetime.date, b: datetime.date, c: uuid.UUID -> d"),
    ("a: tuple[int, str] -> b: set[int], c: frozenset, d: dict, e: tuple", None),
    ("a: dict[tuple[int, str], frozenset[str]] -> b", None),
    ("a: Literal[-1, 007, True, None, 'a->b, c'] -> b", "a: Literal[-1, 7, True, None, 'a->b, c'] -> b"),
    ("a: Literal['x', 'x', 1, True] -> b", "a: Literal['x', 1, True] -> b"),
    ("question\n  , context : list[ str ]\n -> answer", "question, context: list[str] -> answer"),
    ("größe: int, 質問 -> 答え", "größe: int, 質問 -> 答え"),
    ("ﬁeld -> answer", "field -> answer"),
    ("q 'what, exactly -> this' -> a: int \"it's\"", "q 'what, exactly -> this' -> a: int 'it\\'s'"),
    (r"q 'a\n\t\\ \' \x41\u00e9\U0001f600' -> a", r"q 'a\n\t\\ \' Aé😀' -> a"),
    ("q '' -> a", "q -> a"),
    ("image: dspy.Image, h: list[dspy.Tool] -> a: dspy.Code", None),
    ("a: dspy.Code['python'] -> b: list[dspy.Code[\"c++\"]]", 'a: dspy.Code["python"] -> b: list[dspy.Code["c++"]]'),
    ("match, type, case -> a", "match, type, case -> a"),
    (
        "a: int[le=1_000] = 1_0 -> b: Any = -1234567890123456789_0",
        "a: int[le=1000] = 10 -> b: Any = -12345678901234567890",
    ),
]


@pytest.mark.parametrize(("text", "canonical"), ACCEPTED)
def test_reads_and_prints_in_canonical_form(text: str, canonical: str | None) -> None:
    signature = parse_signature(text)
    expected = canonical or text.replace("'x','y'", "'x', 'y'").replace("Optional[float]", "float | None")
    assert signature.text == expected
    assert parse_signature(signature.text) == signature


REFUSED = [
    ("a: dspy.Code[python] -> b", 13, "the name of a language in quotes"),
    ("a: dspy.Code[] -> b", 13, "the name of a language in quotes"),
    ("a: dspy.Code['a b'] -> b", 13, "the name of a language in quotes"),
    ("a: dspy.Code['python'", 12, "never closed"),
    ("a: dspy.Image['png'] -> b", 13, "takes no types"),
    ("", 0, "needs '->'"),
    ("   ", 0, "needs '->'"),
    ("question", 8, "needs '->'"),
    ("->", 0, "at least one input field"),
    ("-> answer", 0, "at least one input field"),
    ("question ->", 11, "at least one output field"),
    ("a -> b -> c", 7, "one '->'"),
    ("a: None -> b", 3, "can only be None"),
    ("a: Optional[None] -> b", 3, "can only be None"),
    ("a: int = 'x' -> b", 9, "does not fit its type"),
    ("a = 3 -> b", 4, "does not fit its type"),
    ("a: int = -> b", 9, "a default is"),
    ("a: int = x -> b", 9, "a default is"),
    ("a: float = 1e999 -> b", 11, "a default is"),
    ("a: list = [1 -> b", 13, "expected ',' or ']'"),
    ("a: dict = {1: 2} -> b", 11, "keys of a dict"),
    ("a: dict = {'x' 2} -> b", 15, "expected ':'"),
    ("a: dict = {'x': 1, 'x': 2} -> b", 19, "given twice"),
    ("a: int[ge=5] = 3 -> b", 15, "at least 5"),
    ("a: int[ge=] -> b", 10, "is a number"),
    ("a: int[ge] -> b", 6, "takes no types"),
    ("a: int[ge=1, le] -> b", 13, "expected a limit"),
    ("a: int[ge=1, ge=2] -> b", 13, "given twice"),
    ("a: int[ge=3, le=1] -> b", 13, "no value keeps"),
    ("a: int[gt=3, lt=3] -> b", 13, "no value keeps"),
    ("a: int[min_length=3] -> b", 7, "has no limit 'min_length'"),
    ("a: int[ge='x'] -> b", 7, "is a number"),
    ("a: str[min_length=-1] -> b", 7, "a whole number"),
    ("a: str[min_length=1.5] -> b", 7, "a whole number"),
    ("a: str[min_length=3, max_length=2] -> b", 21, "no value keeps"),
    ("a: str[pattern=3] -> b", 7, "a pattern is a text"),
    ("a: str[pattern='('] -> b", 7, "the pattern is wrong"),
    ("a: str[pattern='(?=x)'] -> b", 7, "the pattern is wrong"),
    ("a: int[multiple_of=0] -> b", 7, "more than 0"),
    ("a: bool[ge=0] -> b", 8, "has no limit"),
    ("a: int[ge=0][le=3] -> b", 13, "one pair of brackets"),
    ("a: {} -> b", 4, "at least one field"),
    ("a: {'x'} -> b", 7, "at least one field"),
    ("a: {x: int -> b", 11, "expected ',' or '}'"),
    ("a: {x: int", 3, "never closed"),
    ("a: {x: int y} -> b", 11, "expected ',' or '}'"),
    ("a: {x: int, x: str} -> b", 12, "given twice"),
    ("a: {_x: int} -> b", 4, "cannot start with '_'"),
    ("a: A{x: int}, c: A{y: int} -> b", 17, "two different types"),
    ("a: str{x: int} -> b", 3, "cannot name a struct"),
    ("a: dict[{x: int}, str] -> b", 8, "cannot be a key"),
    ("a: A[int] -> b", 3, "unknown type 'A'"),
    ("a: A{x: int}, c: A[int] -> b", 18, "takes no types"),
    (
        "a: "
        + ", ".join(f"x{n}: A{n}{{" + ("v: int" if not n else f"a: A{n - 1}, b: A{n - 1}") + "}" for n in range(20))[4:]
        + " -> b",
        225,
        "more than 4096 parts",
    ),
    ("a, a -> b", 3, "given twice"),
    ("a -> b, a", 8, "given twice"),
    ("*args -> b", 0, "'*' has no meaning"),
    ("a, **kw -> b", 3, "'**' has no meaning"),
    ("a, /, b -> c", 3, "'/' has no meaning"),
    ("a,, b -> c", 2, "missing before this comma"),
    ("a b -> c", 2, "expected a comma"),
    ("a; b -> c", 1, "expected a comma"),
    ("a -> b]", 6, "never opened"),
    ("class -> b", 0, "keyword"),
    ("_a -> b", 0, "cannot start with '_'"),
    ("a.b -> c", 0, "cannot name a field"),
    ("1a -> c", 0, "cannot name a field"),
    ("a -> x²", 5, "cannot name a field"),
    ("a: -> b", 3, "a type is missing"),
    ("a: int | -> b", 9, "a type is missing"),
    ("a: strng -> b", 3, "unknown type 'strng'"),
    ("a: this -> b", 3, "none is imported"),
    ("a: os.path -> b", 3, "none is imported"),
    ("a: dspy.Nothing -> b", 3, "none is imported"),
    ("a: list[strng] -> b", 8, "unknown type 'strng'"),
    ("a: 'text' -> b", 3, "not a text in quotes"),
    ("a: bytes -> b", 3, "bytes"),
    ("a: Annotated[int, 3] -> b", 3, "Annotated"),
    ("a: Optional -> b", 3, "needs its types"),
    ("a: Literal -> b", 3, "needs its types"),
    ("a: int[str] -> b", 6, "takes no types"),
    ("a: list[] -> b", 8, "a type is missing"),
    ("a: list[int, str] -> b", 3, "one type, not 2"),
    ("a: dict[str] -> b", 3, "two types"),
    ("a: tuple[..., int] -> b", 9, "'...' can only follow"),
    ("a: tuple[int, ..., str] -> b", 3, "'...' can only follow"),
    ("a: dict[list[int], str] -> b", 8, "cannot be a key"),
    ("a: set[dict] -> b", 7, "cannot be a member"),
    ("a: list[int -> b", 12, "expected ',' or ']'"),
    ("a: list[int", 7, "never closed"),
    ("a: Literal[x] -> b", 11, "in quotes"),
    ("a: Literal[1.5] -> b", 11, "whole numbers"),
    ("a: Literal['x'", 10, "never closed"),
    ("a: Literal[] -> b", 11, "Literal takes"),
    ("a 'open -> b", 2, "quote is never closed"),
    (r"a '\q' -> b", 2, "unknown escape"),
    (r"a '\U00110000' -> b", 2, "cannot be read"),
    ("a: " + "list[" * (MAX_DEPTH + 1) + "int" + "]" * (MAX_DEPTH + 1) + " -> b", 3 + 5 * MAX_DEPTH, "nested more"),
    ("a" * MAX_LENGTH + " -> b", 0, "at most"),
    *[(f"a -> {name}", 5, "reserved") for name in sorted(RESERVED)],
]


@pytest.mark.parametrize(("text", "position", "reason"), REFUSED, ids=[text[:30] for text, *_ in REFUSED])
def test_refuses_with_the_place_and_the_reason(text: str, position: int, reason: str) -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature(text)
    assert caught.value.position == position
    assert reason in caught.value.reason


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("a: string -> b", "did you mean 'str'?"),
        ("a: Boolean -> b", "did you mean 'bool'?"),
        ("a: flot -> b", "did you mean 'float'?"),
        ("a → b", "write '->' between the inputs and the outputs"),
        ("a => b", "write '->' between the inputs and the outputs"),
        ("a > b", "write '->' between the inputs and the outputs"),
        ("a; b -> c", "separate fields with commas"),
        ("a or b -> c", "separate fields with commas"),
        ("a b -> c", "separate fields with commas; a description is in quotes: name: type 'text'"),
        ("a: str 'd' = 'x' -> b", "a default comes before the description: name: type = value 'text'"),
        ("a-b -> c", "a name has letters, digits and '_', and no '-'"),
        ("a: int? -> b", "an optional field is name: type | None"),
        ("a: int or str -> b", "write a choice of types as int | str"),
        ("a: list(int) -> b", "types and limits are in square brackets: list[int], int[ge=0]"),
        ("a: list<int> -> b", "types and limits are in square brackets: list[int], int[ge=0]"),
        ("a: ('x', 'y') -> b", "a choice of values is Literal['a', 'b']"),
        ("a: ['x', 'y'] -> b", "a choice of values is Literal['a', 'b']"),
        ("a: int[1:10] -> b", "limits are named: int[ge=0, le=10], str[max_length=80]"),
        ("a: bool[str] -> b", None),
        ("a & b -> c", None),
        ("a: datetme.date -> b", "did you mean 'datetime.date'?"),
        ("a: Literal[red] -> b", "put it in quotes: 'red'"),
        ("a: None -> b", "write X | None for an optional field"),
    ],
)
def test_suggests_what_to_write(text: str, suggestion: str | None) -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature(text)
    assert caught.value.suggestion == suggestion


def test_the_message_shows_the_line_with_a_caret_under_the_fault() -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature("question,\n質問: strng\n-> answer")
    lines = caught.value.message.split("\n")
    assert lines[0].endswith("(line 2, column 5)")
    assert lines[1:3] == ["  質問: strng", "        ^^^^^"]  # a wide character takes two columns
    assert lines[3] == "did you mean 'str'?"


def test_a_long_line_is_cut_around_the_fault() -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature(f"{', '.join(f'field{n}' for n in range(500))}, bad: strng -> answer")
    shown, caret = caught.value.message.split("\n")[1:3]
    assert len(shown) <= 110
    assert shown[caret.index("^") : caret.rindex("^") + 1] == "strng"


def test_an_error_that_travelled_keeps_its_place() -> None:
    with pytest.raises(SignatureError) as caught:
        parse_signature("a: strng -> b")
    back = error_from(error_info(caught.value))
    assert isinstance(back, SignatureError)
    assert isinstance(back, InvalidRequest)
    assert (back.position, back.suggestion, back.message) == (3, "did you mean 'str'?", caught.value.message)


def test_type_names_are_never_imported() -> None:
    script = (
        "import sys; from dspex_bus.signatures import SignatureError, parse_signature\n"
        "for name in ('this', 'antigravity.x', 'wave'):\n"
        "    try: parse_signature(f'q -> a: {name}')\n"
        "    except SignatureError: assert name.split('.')[0] not in sys.modules\n"
        "    else: raise SystemExit(1)\n"
        "assert 'dspy' not in sys.modules and 'numpy' not in sys.modules and 'pydantic' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""  # the module `this` prints when it is imported


def test_parsing_is_cached_and_instructions_are_part_of_the_key() -> None:
    assert parse_signature("a -> b") is parse_signature("a -> b")
    assert parse_signature("a -> b", "Be brief.") != parse_signature("a -> b")
    assert parse_signature("a -> b", "") == parse_signature("a -> b")


def test_the_digest_is_stable_and_tells_signatures_apart() -> None:
    assert parse_signature("question -> answer").digest == "5687c25e8d8a0fbe132750a1035beae2"
    texts = [
        "a -> b",
        "a: str -> b",
        "a -> b 'x'",
        "a: Literal[1] -> b",
        "a: Literal[True] -> b",
        "a: Literal['1'] -> b",
    ]
    assert len({parse_signature(text, "same").digest for text in texts}) == len(texts)
    assert parse_signature("a:Optional[int]->b").digest == parse_signature("a: int | None -> b").digest


def test_equal_literals_of_different_types_are_different_signatures() -> None:
    one, true = parse_signature("a: Literal[1] -> b", "same"), parse_signature("a: Literal[True] -> b", "same")
    assert one != true


def test_foreign_types_are_known_by_name() -> None:
    assert parse_signature("a: dict[str, list[dspy.Image] | None] -> b: dspy.Code").foreign == (
        "dspy.Image",
        "dspy.Code",
    )
    assert parse_signature("a: int -> b").foreign == ()


def test_reasoning_comes_first() -> None:
    signature = parse_signature("question -> answer", "Think.")
    assert signature.with_reasoning().output_names == ("reasoning", "answer")
    assert signature.with_reasoning().instructions == "Think."
    own = parse_signature("question -> answer, reasoning: list[str] 'steps'").with_reasoning()
    assert own.text == "question -> reasoning: list[str] 'steps', answer"
    with pytest.raises(SignatureError, match="reasoning"):
        parse_signature("reasoning -> answer").with_reasoning()


# --- parse ∘ print = identity --------------------------------------------------------------------

_names = st.from_regex(r"[a-zäöé][a-z0-9_äé]{0,8}", fullmatch=True).filter(
    lambda name: name not in RESERVED and not keyword.iskeyword(name)
)
_texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_choices = st.lists(st.one_of(_texts, st.integers(), st.booleans(), st.none()), min_size=1, max_size=4)
_scalars = st.sampled_from(list(t.SCALARS.values()))
_leaves = st.one_of(
    _scalars,
    _choices.map(lambda values: t.choice(tuple(values))),
    st.sampled_from([t.Array("list"), t.Array("tuple"), t.Mapping(), t.Foreign("dspy.Image")]),
)


def _containers(inner: st.SearchStrategy[t.Type]) -> st.SearchStrategy[t.Type]:
    keys = inner.filter(t.hashable)
    return st.one_of(
        st.builds(t.Array, st.sampled_from(["list", "tuple"]), inner),
        st.builds(t.Array, st.sampled_from(["set", "frozenset"]), keys),
        st.builds(t.FixedTuple, st.lists(inner, min_size=1, max_size=3).map(tuple)),
        st.builds(t.Mapping, keys, inner),
        st.lists(inner, min_size=1, max_size=3).map(t.union),
    )


_limited = st.sampled_from(
    [
        t.Constrained(t.SCALARS["int"], (t.Limit("ge", 0), t.Limit("le", 10))),
        t.Constrained(t.SCALARS["float"], (t.Limit("gt", -1.5), t.Limit("lt", 2e-7))),
        t.Constrained(t.STR, (t.Limit("max_length", 9), t.Limit("pattern", "^[a-z']+\\s$"))),
        t.Constrained(t.Array("list", t.STR), (t.Limit("min_items", 1),)),
    ]
)
_types = st.recursive(_leaves | _limited, _containers, max_leaves=6)
_descriptions = st.none() | _texts
_literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def _fields(draw: st.DrawFn) -> list[Field]:
    made = []
    for name in draw(st.lists(_names, min_size=2, max_size=6, unique=True)):
        made.append(draw(_field(name, len(made))))
    return made


@st.composite
def _field(draw: st.DrawFn, name: str, place: int) -> Field:
    kind = draw(_types)
    typed = kind != t.NONE and draw(st.booleans())
    if typed and draw(st.integers(0, 4)) == 0:  # its default may be anything
        return Field(name, t.ANY, draw(_descriptions), True, t.literal(draw(_literals)))
    if typed and draw(st.integers(0, 3)) == 0:
        inner = draw(st.lists(_names, min_size=1, max_size=3, unique=True))
        members = tuple(
            Field(each, draw(_types.filter(lambda kind: kind != t.NONE)), draw(_descriptions)) for each in inner
        )
        doc = draw(st.none() | st.sampled_from(["A thing.", "It's\n\nlong"]))
        kind = t.Record(f"Made{place}", members, doc)
        kind = draw(st.sampled_from([kind, t.Array("list", kind), t.union([kind, t.NONE])]))
    return Field(name, kind if typed else t.STR, draw(_descriptions), typed)


@given(_fields(), st.text(max_size=30), st.data())
@settings(max_examples=200)
def test_parse_of_print_is_the_identity(fields: list[Field], instructions: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(fields) - 1))
    signature = Signature(tuple(fields[:cut]), tuple(fields[cut:]), instructions or "Do it.")
    again = parse_signature.__wrapped__(signature.text, signature.instructions)
    assert again == signature
    assert again.text == signature.text
    assert again.digest == signature.digest
    assert hash(again) == hash(signature)
    assert msgspec.json.encode(signature.output_schema())


_WORD = (
    "a b int str list dict Literal Optional tuple A ge max_items None 3 -1.5 'x' \"y\" -> : , [ ] { } | = * ... é 1e ."
)
_WORDS = [*_WORD.split(), " ", "\n", "'", "\\", "->->"]


@given(
    st.text(alphabet="ab: ,->[]{}|'\"\\*=intlsLeral.0 \n", max_size=40)
    | st.lists(st.sampled_from(_WORDS)).map(" ".join)
)
@settings(max_examples=600)
def test_any_text_is_read_or_refused_in_place(text: str) -> None:
    error = _refusal(text)
    assert error is None or (0 <= error.position <= len(text) and "\n" in error.message)


@given(st.lists(st.sampled_from(_WORDS), max_size=12).map("".join))
@settings(max_examples=400)
def test_what_is_read_is_printed_and_read_to_the_same(middle: str) -> None:
    try:
        signature = parse_signature.__wrapped__(f"a: {middle} -> b: {middle}")
    except SignatureError:
        return
    assert parse_signature.__wrapped__(signature.text) == signature


def _refusal(text: str) -> SignatureError | None:
    try:
        parse_fields(text)
    except SignatureError as error:
        return error
    return None
