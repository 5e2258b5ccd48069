"""What the demo ships with: a pipeline, and a folder of documents about dspex and what it stands on."""

from __future__ import annotations

from pathlib import Path

from dspex_bus.wire import PipelineDefinition

from ..loading import load_pipeline

DOCUMENTS = Path(__file__).parent / "documents"
PIPELINE = Path(__file__).parent / "research.yaml"
QUESTION = "What happens to a run when a worker is killed?"


def research() -> PipelineDefinition:
    """The research assistant. It searches the folder that the system was started with."""
    return load_pipeline(PIPELINE)
