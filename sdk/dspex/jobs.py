"""Job files: what ``dspex optimize`` reads.

module: dspy.ChainOfThought
signature: "question -> answer"
trainset: train.jsonl
metric: exact_match
optimizer: miprov2
options: {num_candidates: 6}
program: qa
promote: production
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from dspex_bus.errors import InvalidRequest
from dspex_services.evaluation.datasets import Dataset, load_dataset
from dspex_services.optimizing import Budget, ModuleSpec


class JobFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``module`` with its ``signature`` and ``instructions``, or ``start`` for a stored program to go on from.
    ``programs`` are those that the optimizer ``ensemble`` makes one of. ``trainset`` and ``valset`` are files, from the
    job file's own folder; ``split`` names parts of saved data sets. ``options`` are the optimizer's own. The rest is as
    for ``client.optimize``."""

    trainset: str
    metric: str | dict[str, Any]
    module: str | None = None
    signature: str | None = None
    instructions: str | None = None
    start: str | None = None
    valset: str | None = None
    split: dict[str, str] = {}
    inputs: tuple[str, ...] | None = None
    optimizer: str = "miprov2"
    options: dict[str, Any] = {}
    teacher: str | None = None
    programs: tuple[str, ...] = ()
    program: str = ""
    promote: str | None = None
    budget: Budget = Budget()
    seed: int | None = None
    model: str | None = None
    prompt_model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    adapter: str = "chat"
    threads: int | None = None


_HERE = frozenset(
    ("trainset", "valset", "split", "module", "signature", "instructions", "start", "options", "optimizer", "metric")
)


def load_job(path: str | Path) -> tuple[Any, Dataset, dict[str, Any]]:
    """What ``client.optimize`` takes: the module, the trainset, and everything else by name. Raises InvalidRequest
    naming the place."""
    import yaml

    file = Path(path)
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidRequest(f"cannot read the job file {file}: {why}", code="file_unreadable") from error
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{file} is not YAML: {error}", code="invalid_job") from error
    return read_job_file(document, file)


def read_job_file(document: Any, file: Path) -> tuple[Any, Dataset, dict[str, Any]]:
    if not isinstance(document, Mapping):
        raise InvalidRequest(f"{file} is no job: a mapping with module, trainset and metric", code="invalid_job")
    try:
        job = msgspec.convert(dict(document), JobFile)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{file}: {error}", code="invalid_job") from error
    if (job.module is None) == (job.start is None) and not job.programs:
        raise InvalidRequest(f"{file} must name a module, or a program to start from, and not both", code="invalid_job")
    module: Any = job.start
    if job.module is not None:
        module = ModuleSpec(module=job.module, signature=job.signature, instructions=job.instructions)
    given = {name: getattr(job, name) for name in job.__struct_fields__ if name not in _HERE}
    valset = _examples(job.valset, file, job.split.get("valset")) if job.valset is not None else None
    return (
        module,
        _examples(job.trainset, file, job.split.get("trainset")),
        {**given, "metric": job.metric, "optimizer": job.optimizer, "valset": valset, **job.options},
    )


def _examples(path: str, file: Path, split: str | None) -> Dataset:
    return load_dataset(file.parent / path, split=split)
