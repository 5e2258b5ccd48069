"""Build the sdist and from it the wheel, and fail unless the wheel holds exactly the packages' files that git
tracks."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOTS = ("bus/dspex_bus", "router/dspex_router", "services/dspex_services", "sdk/dspex")


def built() -> set[str]:
    with tempfile.TemporaryDirectory() as folder:
        # Without --wheel or --sdist, build makes the wheel from the sdist it has just made.
        subprocess.run([sys.executable, "-m", "build", "--outdir", folder], check=True, stdout=subprocess.DEVNULL)
        (wheel,) = Path(folder).glob("*.whl")
        return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files", *ROOTS], check=True, capture_output=True, text=True).stdout
    return {path.split("/", 1)[1] for path in listed.splitlines()}


def main() -> None:
    wheel, git = built(), tracked()
    for path in sorted(wheel ^ git):
        print(f"{'only in the wheel' if path in wheel else 'missing from the wheel'}: {path}")
    if wheel != git:
        sys.exit(1)
    print(f"the wheel holds the {len(git)} files it should")


if __name__ == "__main__":
    main()
