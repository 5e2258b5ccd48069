"""Pipeline files: YAML or JSON to a definition, with errors that name the place."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any

import msgspec

from dspex_bus.errors import InvalidPipeline, InvalidRequest
from dspex_bus.wire import CaseDefinition, PipelineDefinition, RetryPolicy, StepDefinition


def load_pipeline(path: str | Path) -> PipelineDefinition:
    """The definition in a ``.yaml``, ``.yml`` or ``.json`` file. Without a ``name`` it is called after the file."""
    file = Path(path)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequest(f"cannot read the pipeline file {file}: {why}", code="file_unreadable") from error
    return parse_pipeline(text, source=str(file), default_name=file.stem)


def parse_pipeline(text: str, *, source: str = "pipeline", default_name: str = "pipeline") -> PipelineDefinition:
    """The definition in YAML or JSON text (JSON is YAML)."""
    document = _document(text, source)
    document.setdefault("name", default_name)
    try:
        return msgspec.convert(document, PipelineDefinition)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        raise InvalidPipeline(message + _near(message, place), path=f"{source} {place.strip('`')}".strip()) from error


def _near(message: str, place: str) -> str:
    """Where a field is misspelt, the one that is meant."""
    wrong = re.search(r"unknown field `(.*)`", message)
    kinds = (StepDefinition, CaseDefinition, RetryPolicy) if place else (PipelineDefinition,)
    known = [name for kind in kinds for name in kind.__struct_encode_fields__]
    near = difflib.get_close_matches(wrong[1], known, 1) if wrong else []
    return f"; did you mean `{near[0]}`?" if near else ""


def _document(text: str, source: str) -> dict[str, Any]:
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidPipeline(f"not YAML: {error}", path=source) from error
    if not isinstance(document, dict):
        raise InvalidPipeline("a pipeline is a mapping with 'name' and 'steps'", path=source)
    return document
