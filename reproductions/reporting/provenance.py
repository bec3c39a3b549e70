"""Where a result comes from: the commit, the versions, the machine."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = (
    "vq-autoencoder",
    "discrete-diffusion",
    "continuous-diffusion",
    "context-prediction",
    "diffusion-evaluation",
)
LIBRARIES = ("torch", "accelerate", "numpy", "scipy")


def provenance() -> dict[str, Any]:
    """All of it, for a file of results."""
    return {"commit": commit(), "packages": versions(), "environment": environment()}


def versions() -> dict[str, str]:
    """The packages of this repository, and the libraries whose version may change a result."""
    return {name: version(name) for name in (*PACKAGES, *LIBRARIES)}


def environment() -> dict[str, Any]:
    """The machine and the libraries that a run was made with."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.system(),
    }


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def commit() -> str | None:
    """The commit of the working tree ("+" when it was changed since)."""
    folder = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        status = subprocess.run(
            ["git", "status", "--porcelain", "--", "*.py"], cwd=folder, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if status.stdout.strip() else "")
