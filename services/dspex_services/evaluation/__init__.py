"""Scoring programs: metrics, datasets, evaluation over the bus, comparison. Importing this package imports no DSPy."""
