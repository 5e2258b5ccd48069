"""Jinja2's sandbox, with bounds on what a few characters can turn into hours or into all of the memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.lexer import Lexer
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_RENDERED = 4_194_304
"""Characters a template may render to, and items in anything it multiplies or pads."""
MAX_STEPS = 1_000_000
"""Turns of loops in one rendering; a call takes the time of several."""
_CALL = 20
_MAX_POWER = 1024

_WIDE = re.compile(r"\*|\d{6,}")
"""In a format: a width that is given apart, or a huge one."""
_PADDING = ("batch", "center", "indent", "slice")

_left: ContextVar[list[int]] = ContextVar("dspex_template_steps")


class Place(int):
    """A line, from 1, that knows the column, from 1. Jinja2 hands lines on from tokens to nodes and to errors."""

    column: int

    def __new__(cls, line: int, column: int) -> Place:
        place = super().__new__(cls, line)
        place.column = column
        return place


class _PlacedLexer(Lexer):
    """Jinja2's lexer, with columns."""

    def tokeniter(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> Iterator[tuple[int, str, str]]:
        at = 0
        try:
            for _, token, value in super().tokeniter(source, name, filename, state):
                # White space that a minus sign takes away is in the source and in no token.
                at = max(at, source.find(value, at))
                yield _place(source, at), token, value
                at += len(value)
        except jinja2.TemplateSyntaxError as error:
            error.lineno = _place(source, at)
            raise


def _place(source: str, at: int) -> Place:
    return Place(source.count("\n", 0, at) + 1, at - source.rfind("\n", 0, at))


class Sandbox(ImmutableSandboxedEnvironment):
    """What ``rendering`` bounds is counted; undefined names are errors."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, loader: jinja2.BaseLoader | None = None) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, loader=loader)
        self._lexer = _PlacedLexer(self)
        self.filters |= {name: _bounded(name, self.filters[name]) for name in _PADDING}
        self.filters["format"] = _formatted
        del self.globals["lipsum"]

    @property
    def lexer(self) -> Lexer:
        return self._lexer

    def _generate(self, source: nodes.Template, *arguments: Any, **options: Any) -> str:
        """Every loop counts its turns: Jinja2 compiles one to a bare ``for``, which nothing else can stop."""
        for loop in list(source.find_all(nodes.For)):
            loop.iter = nodes.Call(nodes.EnvironmentAttribute("counted"), [loop.iter], [], None, None)
            loop.iter.set_lineno(loop.lineno).set_environment(self)
        return super()._generate(source, *arguments, **options)

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            _spend()
            yield item

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        _spend(_CALL)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps the method format
        if isinstance(getattr(method, "__self__", None), str):
            _check_sizes(method.__name__, (*args, *kwargs.values()))
            if method.__name__ in ("format", "format_map"):
                _check_format(method.__self__)
        return super().call(__context, __obj, *args, **kwargs)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        match operator:
            case "**" if abs(right) > _MAX_POWER or abs(left) > 1_000_000:
                raise SecurityError(f"{left!r} ** {right!r} is too large")
            case "%" if isinstance(left, str):
                _check_format(left)
            case "*":
                for many, times in ((left, right), (right, left)):
                    if isinstance(many, str | list | tuple) and isinstance(times, int):
                        _check_length(len(many) * times)
        return super().call_binop(context, operator, left, right)


@contextmanager
def rendering() -> Iterator[None]:
    """One rendering, with its own count of steps."""
    token = _left.set([MAX_STEPS])
    try:
        yield
    finally:
        _left.reset(token)


def _spend(steps: int = 1) -> None:
    left = _left.get(None)
    if left is not None:
        left[0] -= steps
        if left[0] < 0:
            raise SecurityError(f"more than {MAX_STEPS} steps are too many")


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(*arguments: Any, **options: Any) -> Any:
        _check_sizes(name, (*arguments, *options.values()))
        return function(*arguments, **options)

    return bounded


def _formatted(value: str, *arguments: Any, **options: Any) -> str:
    _check_format(str(value))
    return str(value) % (options or arguments)


def _check_format(text: str) -> None:
    if _WIDE.search(text):
        raise SecurityError("a format this wide is too large")


def _check_sizes(name: str, arguments: Iterable[Any]) -> None:
    for argument in arguments:
        if isinstance(argument, int) and abs(argument) > MAX_RENDERED:
            raise SecurityError(f"{name}({argument}) is too large")


def _check_length(length: int) -> None:
    if length > MAX_RENDERED:
        raise SecurityError(f"a result of more than {MAX_RENDERED} items is too large")
