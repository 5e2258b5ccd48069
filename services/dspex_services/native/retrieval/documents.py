"""A folder of documents as passages: what is searched."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from .errors import DocumentUnreadable, FolderEmpty, FolderNotAllowed, FolderNotFound

ROOTS = "DSPEX_DOCUMENTS"
ENDINGS = (".md", ".txt", ".rst")
_WORDS = 160
"""About as long as a passage gets."""

_HEADING = re.compile(r"#{1,6}\s+(.*\S)\s*")


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """``source`` is the document's path in its folder, ``title`` its nearest heading; ``id`` tells passages apart.
    ``score`` grows with relevance; its scale is the search's own."""

    id: str
    text: str
    source: str
    title: str = ""
    score: float = 0.0


class Passages(msgspec.Struct, frozen=True, kw_only=True):
    passages: list[Passage]


def resolve(folder: str) -> Path:
    """The folder, which must lie in one the operator has opened: those in ``DSPEX_DOCUMENTS``, else the worker's own
    working directory. A relative one is looked for in each."""
    roots = [Path(root).resolve() for root in os.environ.get(ROOTS, os.curdir).split(os.pathsep) if root]
    inside = [found for root in roots if (found := (root / folder).resolve()).is_relative_to(root)]
    if not inside:
        raise FolderNotAllowed(
            f"the folder {folder!r} is outside of what this pool may read; its operator opens folders with {ROOTS}",
            details={"folder": folder},
        )
    for found in inside:
        if found.is_dir():
            return found
    what = (
        "is a file, not a folder"
        if any(found.exists() for found in inside)
        else "was not found on the worker's machine"
    )
    raise FolderNotFound(f"the folder {folder!r} {what}", details={"folder": folder})


def files(folder: Path) -> list[Path]:
    """The documents in it, in a stable order. FolderEmpty where there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in ENDINGS and path.is_file())
    if not found:
        raise FolderEmpty(f"the folder {folder.name!r} has no documents ({', '.join(ENDINGS)})")
    return found


def fingerprint(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes when a document does."""
    return tuple((str(path), (stat := path.stat()).st_mtime_ns, stat.st_size) for path in files(folder))


def load(folder: Path) -> list[Passage]:
    """Every passage of every document."""
    return [passage for path in files(folder) for passage in _passages(path, folder)]


def _passages(path: Path, folder: Path) -> Iterator[Passage]:
    source = path.relative_to(folder).as_posix()
    try:
        text = path.read_text("utf-8")
    except (UnicodeDecodeError, OSError) as error:
        raise DocumentUnreadable(f"the document {source} cannot be read as UTF-8: {error}") from error
    for number, (title, part) in enumerate(_parts(text)):
        yield Passage(id=f"{source}#{number}", text=part, source=source, title=title or path.stem)


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """Paragraphs under their heading, joined until they have about the length of a passage."""
    title, held = "", list[str]()
    for paragraph in re.split(r"\n\s*\n", text):
        heading = _HEADING.match(paragraph.strip())
        if heading:
            yield from _joined(title, held)
            title, held = heading[1], []
            paragraph = paragraph.strip()[heading.end() :]
        if paragraph.strip():
            held.append(paragraph.strip())
            if sum(len(part.split()) for part in held) >= _WORDS:
                yield from _joined(title, held)
                held = []
    yield from _joined(title, held)


def _joined(title: str, held: list[str]) -> Iterator[tuple[str, str]]:
    if held:
        yield title, "\n\n".join(held)
