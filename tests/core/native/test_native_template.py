"""Templates: rendering, errors with their line, and what the sandbox refuses."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dspex_bus.wire import error_from, error_info
from dspex_services.native.errors import TemplateError, TemplateFailed
from dspex_services.native.template import MAX_LENGTH, compile_template, render


@pytest.mark.parametrize(
    ("source", "values", "text"),
    [
        ("Hello {{ name }}!\n", {"name": "Ada"}, "Hello Ada!\n"),
        ("{{ n }}{{ f }}{{ e }}", {"n": 0, "f": False, "e": ""}, "0False"),
        (
            "{% for p in passages %}- {{ p.text }}\n{% endfor %}",
            {"passages": [{"text": "a"}, {"text": "b"}]},
            "- a\n- b\n",
        ),
        ("{{ '<b>' }}", {}, "<b>"),
        ("{{ x | default('none') }}", {}, "none"),
        ("{{ 'ab' * 3 }}{{ 2 ** 10 }}", {}, "ababab1024"),
    ],
)
def test_renders(source: str, values: dict[str, Any], text: str) -> None:
    assert render(source, values) == text


@pytest.mark.parametrize(
    ("source", "line"), [("a\nb {{ x", 2), ("{% if %}", 1), ("a\n\n{% endfor %}", 3), ("{{ x | nofilter }}", 1)]
)
def test_what_does_not_compile_says_the_line(source: str, line: int) -> None:
    with pytest.raises(TemplateError) as caught:
        compile_template(source)
    assert caught.value.line == line
    assert not isinstance(caught.value, TemplateFailed)


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("a\n{{ missing }}", 2, "'missing' is undefined"),
        ("{{ x.nothing }}", 1, "no attribute 'nothing'"),
        ("\n\n{{ 1 // 0 }}", 3, "ZeroDivisionError"),
        ("{{ ''.__class__.__mro__ }}", 1, "unsafe"),
        ("{{ x.update({1: 2}) }}", 1, "unsafe"),
        ("{{ 'a' * 10 ** 9 }}", 1, "too large"),
        ("{{ [1] * 100000000 }}", 1, "too large"),
        ("{{ 9 ** 9 ** 9 }}", 1, "too large"),
        ("{% for i in range(10 ** 7) %}{% endfor %}", 1, "Range too big"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", 1, "recursion"),
        ("{% include 'other' %}", 1, "no loader"),
    ],
)
def test_what_does_not_render_says_why_and_where(source: str, line: int, reason: str) -> None:
    with pytest.raises(TemplateFailed, match=reason) as caught:
        render(source, {"x": {}})
    assert caught.value.line == line


def test_endless_output_is_cut_off() -> None:
    source = "{% for i in range(9999) %}{% for j in range(9999) %}{{ text }}{% endfor %}{% endfor %}"
    with pytest.raises(TemplateFailed, match="more than"):
        render(source, {"text": "x" * 10_000})


def test_a_source_that_is_too_long_or_too_deep_is_refused() -> None:
    with pytest.raises(TemplateError, match="characters"):
        compile_template("x" * (MAX_LENGTH + 1))
    with pytest.raises(TemplateError, match="deep"):
        compile_template("{{" + "(" * 5_000 + "1" + ")" * 5_000 + "}}")


def test_a_template_knows_its_variables_and_is_compiled_once() -> None:
    template = compile_template("{% set y = 1 %}{{ question }}{{ y }}{% for p in passages %}{{ p }}{% endfor %}")
    assert template.variables == ("passages", "question")
    assert compile_template("same {{ x }}") is compile_template("same {{ x }}")


def test_an_error_that_travelled_keeps_its_line() -> None:
    with pytest.raises(TemplateFailed) as caught:
        render("\n{{ x }}", {})
    back = error_from(error_info(caught.value))
    assert isinstance(back, TemplateFailed)
    assert back.line == 2


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("{{ x", 1, 4),
        ("a\nb {{ x y }}", 2, 8),
        ("{% set y = x %}\n  {{ x | nofilter }}", 2, 10),
        ("one\r\ntwo {{ ) }}", 2, 8),
        ("a {{ x ? y }}", 1, 8),
        ("  {%- set = 3 %}", 1, 11),
        ("x\n   {%- endfor %}", 2, 8),
        ("{# never\nclosed", 1, 3),
        ("üñ {{ 'a' + }}", 1, 13),
        ("{% block a %}{% endblock %}\n{% block a %}{% endblock %}", 2, 4),
    ],
)
def test_what_does_not_compile_says_the_column(source: str, line: int, column: int) -> None:
    with pytest.raises(TemplateError, match=f"line {line}, column {column}: ") as caught:
        compile_template(source)
    assert (caught.value.line, caught.value.column) == (line, column)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in xs recursive %}{{ loop(xs) }}{% endfor %}",
        "{% for a in xs %}{% for b in xs %}{% for c in xs %}{% endfor %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}",
        "{{ 'a'.ljust(10 ** 9) }}",
        "{{ 'a' | center(10 ** 9) }}",
        "{{ 'a' | indent(width=10 ** 9) }}",
        "{{ xs | batch(10 ** 9, 'x') | list }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '%*d' % (10 ** 9, 1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ lipsum(10 ** 6) }}",
    ],
)
def test_what_would_take_hours_or_all_of_the_memory_ends_soon(source: str) -> None:
    started = time.monotonic()
    with pytest.raises(TemplateFailed):
        render(source, {"xs": list(range(300))})
    assert time.monotonic() - started < 20


def test_loops_know_where_they_are_and_formats_work() -> None:
    source = (
        "{% for x in xs %}{{ loop.index }}/{{ loop.length }}{{ ',' if not loop.last }}{% else %}none{% endfor %} "
        "{{ '%s-%03d' % ('a', 7) }} {{ '%(n)s' | format(n=1) }} {{ 'a' | center(3) }}| {{ '{:>3}'.format('b') }} "
        "{{ 7 % 4 }}"
    )
    assert render(source, {"xs": ["p", "q"]}) == "1/2,2/2 a-007 1  a |   b 3"
    assert render("{% for x in xs %}{% else %}none{% endfor %}", {"xs": []}) == "none"
