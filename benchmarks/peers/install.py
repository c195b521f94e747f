"""Each peer into a virtual environment of its own: python benchmarks/peers/install.py NAME… (none: what there is).

Nothing else goes into it: pip runs from outside. Needs pip ≥ 22.3 in the Python that runs this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VENVS = HERE / "venvs"


def names() -> list[str]:
    return sorted(path.stem.removeprefix("requirements-") for path in HERE.glob("requirements-*.txt"))


def python_of(name: str) -> Path:
    return VENVS / name / "bin" / "python"


def site_packages(name: str) -> Path | None:
    return next((VENVS / name).glob("lib/python*/site-packages"), None)


def size_mb(folder: Path) -> float:
    """Megabytes (10^6 bytes) that a folder takes on the disk."""
    return sum(os.lstat(Path(root, one)).st_blocks for root, _, files in os.walk(folder) for one in files) * 512 / 1e6


def install(name: str) -> float:
    """Seconds it took. Raises CalledProcessError."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", VENVS / name], check=True)
    # Relative paths in a requirements file are relative to the working directory.
    command = [sys.executable, "-m", "pip", "--python", python_of(name), "install", "--quiet", "-r"]
    subprocess.run([*command, HERE / f"requirements-{name}.txt"], check=True, cwd=ROOT)
    return time.monotonic() - start


def main() -> None:
    wanted = sys.argv[1:]
    unknown = [name for name in wanted if name not in names()]
    if unknown or not wanted:
        sys.exit(f"{' '.join(unknown) or 'no name'}: wanted some of {' '.join(names())}")
    for name in wanted:
        try:
            seconds = install(name)
        except subprocess.CalledProcessError as error:
            sys.exit(f"{name}: cannot be installed, what ran last ended with {error.returncode}; it says why above")
        folder = site_packages(name)
        print(f"{name}: {size_mb(folder) if folder else 0:.0f} MB in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
