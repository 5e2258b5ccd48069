"""Jinja2 templates for text from anyone: sandboxed, strict about undefined names, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jinja2
from jinja2 import meta

from .errors import TemplateError, TemplateFailed
from .sandbox import MAX_RENDERED, Place, Sandbox, rendering

MAX_LENGTH = 262_144
"""Characters in a template's source."""
_INLINE = "<template>"

_environment = Sandbox()


class Template:
    """A compiled template. ``variables`` are the names it reads from its values, ``includes`` those of the templates it
    includes, extends or imports, both sorted; None among the latter is one that only rendering can tell."""

    __slots__ = ("_template", "includes", "variables")

    def __init__(self, source: str, *, name: str = "", environment: Sandbox = _environment) -> None:
        check_length(source, name)
        try:
            tree = environment.parse(normalized(source), name or None, name or None)
            code = environment.compile(tree, name or None, name or _INLINE)
        except jinja2.TemplateSyntaxError as error:
            raise syntax_error(error) from error
        except RecursionError as error:
            raise TemplateError("it is nested too deep", name=name) from error
        self._template = jinja2.Template.from_code(environment, code, environment.make_globals(None))
        self.variables = tuple(sorted(meta.find_undeclared_variables(tree)))
        found = set(meta.find_referenced_templates(tree))
        self.includes: tuple[str | None, ...] = (
            *sorted(one for one in found if one),
            *([None] if None in found else ()),
        )

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with the values filled in. TemplateFailed for an undefined name, an operation the sandbox
        forbids, or anything that goes wrong inside the template."""
        try:
            with rendering():
                return self._rendered(values)
        except TemplateError:
            raise
        except jinja2.TemplateSyntaxError as error:  # of one that it includes
            raise syntax_error(error) from error
        except jinja2.TemplateNotFound as error:
            raise _failed(f"there is no template {error.message!r} to include", error) from error
        except jinja2.UndefinedError as error:
            raise _failed(str(error.message), error) from error
        except Exception as error:  # filters and the values' own methods run here: anything may come
            raise _failed(f"{type(error).__name__}: {error}", error) from error

    def _rendered(self, values: Mapping[str, Any]) -> str:
        pieces: list[str] = []
        size = 0
        for piece in self._template.generate(values):
            size += len(piece)
            if size > MAX_RENDERED:
                raise TemplateFailed(f"it renders to more than {MAX_RENDERED} characters")
            pieces.append(piece)
        return "".join(pieces)


@lru_cache(maxsize=1024)
def compile_template(source: str) -> Template:
    """The compiled template; raises TemplateError with line and column. Equal sources give the same object."""
    return Template(source)


def render(source: str, values: Mapping[str, Any]) -> str:
    """``compile_template(source).render(values)``."""
    return compile_template(source).render(values)


def check_length(source: str, name: str = "") -> None:
    if len(source) > MAX_LENGTH:
        raise TemplateError(f"it has {len(source)} characters, more than {MAX_LENGTH}", name=name)


def normalized(source: str) -> str:
    """With the line ends that Jinja2 counts in."""
    return source.replace("\r\n", "\n").replace("\r", "\n")


def syntax_error(error: jinja2.TemplateSyntaxError) -> TemplateError:
    column = error.lineno.column if isinstance(error.lineno, Place) else None
    return TemplateError(str(error.message), line=int(error.lineno), column=column, name=error.name or "")


def _failed(reason: str, error: BaseException) -> TemplateFailed:
    """With the template and line where it arose: Jinja2 puts frames of its own, named so, into the traceback."""
    line, name = None, ""
    trace = error.__traceback__
    while trace is not None:
        if "__jinja_exception__" in trace.tb_frame.f_globals or trace.tb_frame.f_code.co_filename == _INLINE:
            line, name = trace.tb_lineno, trace.tb_frame.f_code.co_filename
        trace = trace.tb_next
    return TemplateFailed(reason, line=line, name="" if name == _INLINE else name)
