"""Files of tensors, and the accounts kept of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (to name it, not to unpickle)
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

NAMED = 8
Module = TypeVar("Module", bound=nn.Module)


def read_weights(path: str | Path, *, part: str | None = None) -> dict[str, Tensor]:
    """Tensors of a safetensors file, or of a `.ckpt`/`.pt` file: of its `state_dict`, or of the `part` named.

    DiT's training files, for one, have the parts `model` and `ema`.

    Raises FileNotFoundError when there is none, KeyError when it has no such part, ValueError when it is damaged or
    holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        held: Any = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    except UnpicklingError as error:
        raise ValueError(
            f"{path} holds objects besides tensors, and nothing is unpickled here; convert its state_dict to "
            "safetensors where you trust it"
        ) from error
    if part is not None and part not in held:
        raise KeyError(f"{path} has no part {part!r}; it has {', '.join(map(str, list(held)[:NAMED]))}")
    weights = held[part] if part is not None else held.get("state_dict", held)
    return {key: value for key, value in weights.items() if isinstance(value, Tensor)}


def without_prefix(state_dict: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """What stands under `prefix`, without it; all of it when nothing does."""
    nested = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    return nested or dict(state_dict)


def account_for(given: Iterable[str], needed: Iterable[str]) -> None:
    """Check that the names given are those needed.

    Raises KeyError that names the missing and the superfluous.
    """
    if missing := sorted(set(needed) - set(given)):
        raise KeyError(f"the checkpoint lacks {len(missing)} parameters that config asks for: {_listed(missing)}")
    if left_over := sorted(set(given) - set(needed)):
        raise KeyError(f"the checkpoint has {len(left_over)} parameters with no place: {_listed(left_over)}")


def filled(module: Module, given: Mapping[str, Tensor], sources: Mapping[str, list[str]]) -> Module:
    """The module in evaluation mode, each parameter made of its sources joined along their first axis.

    Raises KeyError for names missing or left over, ValueError that says which shape is another.
    """
    account_for(given, {key for keys in sources.values() for key in keys})
    placed = {}
    for name, parameter in module.state_dict().items():
        tensor = torch.cat([given[key] for key in sources[name]]) if len(sources[name]) > 1 else given[sources[name][0]]
        if tensor.numel() != parameter.numel() or tensor.shape[:1] != parameter.shape[:1]:
            raise ValueError(
                f"{', '.join(sources[name])}: shape {tuple(tensor.shape)}, config asks for {tuple(parameter.shape)}"
            )
        placed[name] = tensor.reshape(parameter.shape)
    module.load_state_dict(placed)
    return module.eval()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
