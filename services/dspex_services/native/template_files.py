"""Templates in a folder that the operator named when the worker started, ``DSPEX_TEMPLATES``, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import jinja2

from ..errors import UnknownTemplate
from .errors import TemplateError, TemplateNotAllowed, TemplatesNotConfigured
from .retrieval.documents import reason
from .sandbox import Sandbox
from .template import Template, check_length, normalized

FOLDER = "DSPEX_TEMPLATES"


def template_file(name: str) -> Template:
    """The template in the file ``name``, a path below the folder, as the file is now. Raises UnknownTemplate,
    TemplateNotAllowed, TemplatesNotConfigured, TemplateError."""
    folder = os.environ.get(FOLDER)
    if not folder:
        raise TemplatesNotConfigured(
            f"this pool has no templates in files; its operator names their folder with {FOLDER}"
        )
    root = Path(folder).resolve()
    path = _inside(root, name)
    if path is None:
        raise UnknownTemplate(f"there is no template file {name!r}", details={"template": name})
    return _compiled(root, name, path, _state(path))


class _Loader(jinja2.BaseLoader):
    """For templates that others include, extend or import."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:
        path = _inside(self._root, template)
        if path is None:
            raise jinja2.TemplateNotFound(template)
        state = _state(path)
        return _read(path, template), template, lambda: path.is_file() and _state(path) == state


@lru_cache(maxsize=16)
def _environment(root: Path) -> Sandbox:
    return Sandbox(_Loader(root))


@lru_cache(maxsize=256)
def _compiled(root: Path, name: str, path: Path, state: tuple[int, int]) -> Template:
    return Template(_read(path, name), name=name, environment=_environment(root))


def _inside(root: Path, name: str) -> Path | None:
    """The file, None where there is none. Raises TemplateNotAllowed where it lies outside of the folder."""
    try:
        path = (root / name).resolve()
    except (OSError, ValueError):
        return None
    if not path.is_relative_to(root):
        raise TemplateNotAllowed(
            f"the template file {name!r} lies outside of the folder of templates", details={"template": name}
        )
    return path if path.is_file() else None


def _state(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _read(path: Path, name: str) -> str:
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"it cannot be read as UTF-8: {reason(error)}", name=name) from error
    check_length(source, name)
    return normalized(source)
