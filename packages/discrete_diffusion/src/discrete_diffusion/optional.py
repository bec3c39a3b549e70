"""Modules that only an extra of this package installs."""

from importlib import import_module
from typing import Any


def optional(module: str, extra: str, purpose: str) -> Any:  # noqa: ANN401
    """Import a module when it is first needed, or say what installs it.

    Raises:
        ImportError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module.split('.')[0]}; install it with: pip install 'discrete-diffusion[{extra}]'"
        ) from error
