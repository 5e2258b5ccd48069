"""The optional build hook: compiles the modules that every step passes through (``pyproject.toml`` lists them).

Off unless ``HATCH_BUILD_HOOK_ENABLE_CUSTOM=1``; it needs a C compiler. See ``docs/decisions/0029-compiled.md``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledHook(BuildHookInterface[Any]):
    """What is compiled goes into the wheel beside its source, and Python prefers it. One C library for each of the
    packages: one for all compiles more slowly, and steps are no faster for it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # what one edits would not be what runs
        self._made = tempfile.TemporaryDirectory(prefix="dspex-compiled-")
        made = Path(self._made.name)
        groups: dict[str, list[str]] = self.config["compiled"]
        _compile({name: [self._source(name, module) for module in modules] for name, modules in groups.items()}, made)
        found = sorted((made / "lib").rglob("*.*"))
        build_data["force_include"] |= {str(path): str(path.relative_to(made / "lib")) for path in found}
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._made.cleanup()

    def _source(self, group: str, module: str) -> str:
        return f"{self.root}/{group}/{module.replace('.', '/')}.py"


def _compile(groups: dict[str, list[str]], into: Path) -> None:
    """The extension modules of each group's sources into ``into/lib``."""
    from mypyc.build import mypycify
    from setuptools import Distribution

    extensions = mypycify(
        [source for sources in groups.values() for source in sources],
        opt_level="2",
        debug_level="0",
        separate=[(sources, f"dspex_{name}_compiled") for name, sources in groups.items()],
        target_dir=str(into / "c"),
    )
    build = Distribution({"name": "dspex", "ext_modules": extensions}).get_command_obj("build_ext")
    build.build_lib, build.build_temp, build.parallel = str(into / "lib"), str(into / "objects"), True
    build.ensure_finalized()
    build.run()
