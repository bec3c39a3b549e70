"""Reading and writing weights: safetensors and nothing that is unpickled, every key placed or named."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (to name it, not to unpickle)
from typing import Any, TypeVar

import torch
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"
NAMED = 12
Module = TypeVar("Module", bound=nn.Module)
Loaded = TypeVar("Loaded", bound="Pretrained")


class Pretrained(PyTorchModelHubMixin):
    """`save_pretrained`, `from_pretrained` and `push_to_hub`, strict about keys and free of pickles."""

    @classmethod
    def from_pretrained(
        cls: type[Loaded],
        pretrained_model_name_or_path: str | Path,
        *,
        sha256: str | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Loaded:
        """Read what `save_pretrained` wrote: a folder, or the id of a hub repository (with `revision=...`).

        `sha256` is that of the weights' file; it is checked before they are read.

        Raises:
            FileNotFoundError: the folder lacks the configuration or the weights.
            ValueError: the weights are damaged, of another architecture, or not those of `sha256`.
        """
        folder = Path(pretrained_model_name_or_path)
        if folder.is_dir():
            for file in (CONFIG, WEIGHTS):
                if not (folder / file).is_file():
                    raise FileNotFoundError(f"{folder} holds no {file}; give a folder that save_pretrained wrote")
        if sha256 is not None:
            check_sha256(folder / WEIGHTS if folder.is_dir() else _fetched(str(folder), options), sha256)
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    @classmethod
    def _load_as_safetensor(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:  # noqa: ANN401
        load_strictly(model, read_weights(model_file), what=model_file)
        return model.to(map_location)

    @classmethod
    def _load_as_pickle(cls, model: Any, model_file: str, map_location: str, strict: bool) -> Any:  # noqa: ANN401
        raise ValueError(f"{model_file} is a pickle, which is never read; convert it to {WEIGHTS} first")


def _fetched(name: str, options: Mapping[str, Any]) -> str:
    """Path of the weights of a hub repository."""
    known = {key: options[key] for key in ("revision", "cache_dir", "token", "local_files_only") if key in options}
    return str(hf_hub_download(name, WEIGHTS, **known))


def read_weights(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """Tensors of a file: safetensors, or a `.ckpt`/`.pt` file whose `state_dict` (where it has one) is all tensors.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: its hash is not `sha256`, it is cut short or damaged, or it holds more than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if sha256 is not None:
        check_sha256(path, sha256)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, EOFError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); fetch it again") from error
    except UnpicklingError as error:
        raise ValueError(
            f"{path} holds objects besides tensors, and nothing is unpickled here; convert its state_dict to "
            "safetensors where you trust it"
        ) from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no state dict")
    return tensors


def check_sha256(path: str | Path, expected: str) -> None:
    """Compare a file's hash.

    Raises:
        ValueError: it is another one; both are named.
    """
    with Path(path).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.lower():
        raise ValueError(f"{path} has sha256 {found}, expected {expected}; fetch it again, or correct the hash")


def load_strictly(module: Module, weights: Mapping[str, Tensor], *, what: str = "the file") -> Module:
    """Load weights of exactly these keys and shapes.

    Raises:
        ValueError: naming keys that are missing, unknown, or have another shape.
    """
    expected = module.state_dict()
    missing = [f"missing {key} {tuple(expected[key].shape)}" for key in expected.keys() - weights.keys()]
    unknown = [f"unknown {key} {tuple(weights[key].shape)}" for key in weights.keys() - expected.keys()]
    misshapen = [
        f"{key} has shape {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    if problems := sorted(missing) + sorted(unknown) + sorted(misshapen):
        more = f"; and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        listed = "; ".join(problems[:NAMED])
        raise ValueError(f"{what} does not hold a {type(module).__name__} of this config: {listed}{more}")
    module.load_state_dict(dict(weights))
    return module
