"""The router: compiles pipelines, keeps sessions going, answers clients."""

from .shell import Router, RouterConfig

__all__ = ["Router", "RouterConfig"]
