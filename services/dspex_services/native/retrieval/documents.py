"""What is searched: a folder of documents that the operator has opened, or documents that come with the request."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from .errors import DocumentUnreadable, FolderEmpty, FolderNotAllowed, FolderNotFound
from .passages import Passage, sections

ROOTS = "DSPEX_DOCUMENTS"
ENDINGS = (".md", ".txt", ".rst")


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document in a request. ``source`` is what an answer cites; its place in the list, from 1, where it has none."""

    text: str
    source: str = ""
    title: str = ""


class Corpus(Protocol):
    """``state`` changes when a document does; both may block."""

    @property
    def key(self) -> Hashable: ...

    def state(self) -> Hashable: ...

    def load(self) -> list[Passage]: ...


class Folder:
    """A folder on this machine. Raises FolderNotFound, FolderNotAllowed."""

    def __init__(self, folder: str) -> None:
        self._path = resolve(folder)

    @property
    def key(self) -> Hashable:
        return self._path

    def state(self) -> Hashable:
        found = []
        for path in files(self._path):
            with suppress(FileNotFoundError):  # gone since it was listed
                stat = path.stat()
                found.append((str(path), stat.st_mtime_ns, stat.st_size))
        return tuple(found)

    def load(self) -> list[Passage]:
        found: list[Passage] = []
        for path in files(self._path):
            with suppress(FileNotFoundError):
                found += _passages(path, self._path)
        return found


class Given:
    """Documents of a request: texts, or texts with a source and a title."""

    def __init__(self, documents: Sequence[str | Document]) -> None:
        self._documents = [Document(text=one) if isinstance(one, str) else one for one in documents]
        self._key = hashlib.blake2b(msgspec.json.encode(self._documents), digest_size=16).hexdigest()

    @property
    def key(self) -> Hashable:
        return self._key

    def state(self) -> Hashable:
        return ""

    def load(self) -> list[Passage]:
        counts: dict[str, int] = {}
        found = []
        for place, document in enumerate(self._documents, start=1):
            source = document.source or str(place)
            for title, part in sections(document.text):
                number = counts[source] = counts.get(source, -1) + 1
                title = title or document.title
                found.append(Passage(id=f"{source}#{number}", text=part, source=source, title=title))
        return found


def opened() -> list[Path]:
    """The folders that the operator has opened: those in ``DSPEX_DOCUMENTS``, else the worker's working directory."""
    return [Path(root).resolve() for root in os.environ.get(ROOTS, os.curdir).split(os.pathsep) if root]


def resolve(folder: str) -> Path:
    """The folder, which must lie in one that is opened. A relative one is looked for in each."""
    try:
        inside = [found for root in opened() if (found := (root / folder).resolve()).is_relative_to(root)]
    except (OSError, ValueError) as error:
        raise FolderNotFound(f"there can be no folder {folder!r}", details={"folder": folder}) from error
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
    """The documents in it, in a stable order. A link to a folder is not followed. FolderEmpty where there are none;
    FolderNotAllowed where a document is a link that leads out of what is opened."""
    roots = [folder.resolve(), *opened()]
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if path.suffix.lower() not in ENDINGS:
                continue
            if path.is_symlink():
                _check_link(path, folder, roots)
            if path.is_file():
                found.append(path)
    if not found:
        raise FolderEmpty(f"the folder {folder.name!r} has no documents ({', '.join(ENDINGS)})")
    return sorted(found)


def reason(error: UnicodeDecodeError | OSError) -> str:
    """Without the path on this machine, which is nobody else's business."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)


def _check_link(path: Path, folder: Path, roots: Sequence[Path]) -> None:
    leads_to = path.resolve()
    if not any(leads_to.is_relative_to(root) for root in roots):
        source = path.relative_to(folder).as_posix()
        raise FolderNotAllowed(
            f"the document {source} is a link that leads out of what this pool may read; its operator opens folders "
            f"with {ROOTS}",
            details={"document": source},
        )


def _passages(path: Path, folder: Path) -> Iterator[Passage]:
    source = path.relative_to(folder).as_posix()
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise
    except (UnicodeDecodeError, OSError) as error:
        raise DocumentUnreadable(f"the document {source} cannot be read as UTF-8: {reason(error)}") from error
    for number, (title, part) in enumerate(sections(text)):
        yield Passage(id=f"{source}#{number}", text=part, source=source, title=title or path.stem)
