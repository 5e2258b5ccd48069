"""Optimizers as durable jobs: what a job is, what it may not be, and how far it is. Imports no DSPy."""

from .job import Budget, Job, ModuleSpec, check_names, job_definition, read_job
from .progress import JobProgress, Trial
from .record import JobRecord, Records
from .rules import OPTIMIZERS, Sizes, check, number_of_trials, optimizer_named

__all__ = [
    "OPTIMIZERS",
    "Budget",
    "Job",
    "JobProgress",
    "JobRecord",
    "ModuleSpec",
    "Records",
    "Sizes",
    "Trial",
    "check",
    "check_names",
    "job_definition",
    "number_of_trials",
    "optimizer_named",
    "read_job",
]
