"""Examples from files: JSON Lines, JSON, CSV, and folders that Hugging Face's ``datasets`` saved."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dspex_bus.errors import InvalidRequest, SetupError

Row = dict[str, Any]
DataSource = str | Path | Iterable[Any]
"""A file or folder, or examples: mappings, or ``dspy.Example``."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples by place. ``digest`` names their content: equal examples in the same order have the same. The order of
    an example's fields counts: prompts show it. ``inputs`` are the fields that are asked, where the examples say."""

    name: str
    rows: tuple[Row, ...]
    inputs: tuple[str, ...] | None = None

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(msgspec.json.encode(self.rows)).hexdigest()}"

    @property
    def fields(self) -> tuple[str, ...]:
        """Every field that an example has, in the order first seen."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    def first(self, limit: int | None) -> Dataset:
        return self if limit is None else Dataset(self.name, self.rows[:limit], self.inputs)

    def __len__(self) -> int:
        return len(self.rows)


def load_dataset(source: DataSource, *, split: str | None = None) -> Dataset:
    """The examples in a file or folder, or those given. ``split`` is the part of a folder that has several. Raises
    InvalidRequest (``invalid_dataset``, ``file_unreadable``) naming the place."""
    if isinstance(source, str | Path):
        found = _read(Path(source), split)
    else:
        given = list(source)
        rows = tuple(_row(row, f"example {place}") for place, row in enumerate(given, 1))
        found = Dataset("given", rows, _inputs(given[0], rows[0]) if given else None)
    if not found.rows:
        raise _invalid(f"{found.name} has no examples")
    return found


def write_jsonl(rows: Iterable[Mapping[str, Any]], path: str | Path) -> int:
    """How many examples the file has."""
    lines = [msgspec.json.encode(row) for row in rows]
    Path(path).write_bytes(b"".join(line + b"\n" for line in lines))
    return len(lines)


def _read(path: Path, split: str | None) -> Dataset:
    if path.is_dir():
        return Dataset(path.name, tuple(_saved(path, split)))
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequest(f"cannot read the examples in {path}: {why}", code="file_unreadable") from error
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            rows = [
                _row(_json(line, f"{path} line {number}"), f"{path} line {number}")
                for number, line in enumerate(text.splitlines(), 1)
                if line.strip()
            ]
        case ".json":
            rows = _list(_json(text, str(path)), str(path))
        case ".csv":
            rows = _table(text, str(path))
        case other:
            raise _invalid(f"{path} is {other or 'of no kind'}; examples are .jsonl, .json, .csv, or a saved folder")
    return Dataset(path.name, tuple(rows))


def _json(text: str, where: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise _invalid(f"{where} is not JSON: {error}") from error


def _list(found: Any, where: str) -> list[Row]:
    if not isinstance(found, list):
        raise _invalid(f"{where} is no list of examples")
    return [_row(row, f"{where} example {place}") for place, row in enumerate(found, 1)]


def _inputs(example: Any, row: Row) -> tuple[str, ...] | None:
    """What a ``dspy.Example`` says is asked, in the order of its fields."""
    keys = getattr(example, "_input_keys", None)
    return None if keys is None else tuple(name for name in row if name in keys)


def _row(found: Any, where: str) -> Row:
    if not isinstance(found, Mapping) and hasattr(found, "toDict"):
        found = found.toDict()
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise _invalid(f"{where} is no object with fields")
    try:
        row = msgspec.to_builtins(dict(found), enc_hook=_dumped)
    except TypeError as error:
        raise _invalid(f"{where} holds what is no data: {error}") from error
    assert isinstance(row, dict)
    return row


def _dumped(value: Any) -> Any:
    """DSPy's own types are pydantic's."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} cannot travel")


def _table(text: str, where: str) -> list[Row]:
    """Every cell is text: a table does not say more."""
    reader = csv.DictReader(text.splitlines(keepends=True), strict=True)
    try:
        rows = list(reader)
    except csv.Error as error:
        raise _invalid(f"{where} line {reader.line_num}: {error}") from error
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values():
            raise _invalid(f"{where} row {number} has not as many cells as the heading")
    return rows


def _saved(path: Path, split: str | None) -> Sequence[Row]:
    try:
        import datasets
    except ImportError as error:
        raise SetupError(
            f"{path} is a folder; to read what Hugging Face's datasets saved, install dspex[datasets]",
            code="not_installed",
        ) from error
    try:
        found = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError, OSError) as error:
        raise _invalid(f"{path} was not saved by Hugging Face's datasets: {error}") from error
    if isinstance(found, datasets.DatasetDict):
        if split not in found:
            raise _invalid(f"{path} has several parts; say which: {', '.join(sorted(found))}")
        found = found[split]
    return [_row(row, f"{path} example {place}") for place, row in enumerate(found.to_list(), 1)]


def _invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_dataset")
