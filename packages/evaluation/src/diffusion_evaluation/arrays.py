"""Feature arrays as they come, NumPy's or torch's on any device, as checked rows of one torch tensor."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor


def feature_rows(features: object, argument: str) -> Tensor:
    """The features `(n, d)` as a torch tensor on their own device, without gradient; NumPy's memory is shared.

    Raises TypeError unless they are floats in a torch tensor or a NumPy array, ValueError unless they are `(n, d)`
    with at least one row and finite values throughout.
    """
    rows = _as_tensor(features, argument)
    if not rows.is_floating_point():
        raise TypeError(f"{argument}: features are floats, got {rows.dtype}: convert them with .astype or .to first")
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"{argument}: features are (n, d) with n and d at least 1, got {tuple(rows.shape)}: one row for each image"
        )
    finite = rows.isfinite().all(dim=1)
    if not finite.all():
        bad = (~finite).nonzero().flatten()
        raise ValueError(
            f"{argument}: {len(bad)} of {len(rows)} rows are not finite, the first is row {bad[0].item()}: leave such "
            "images out of both sides, or mend the feature extractor"
        )
    return rows


def require_equal_width(real: Tensor, fake: Tensor) -> None:
    """Raise ValueError unless both sides of features `(n, d)` have one width."""
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"real features have width {real.shape[1]}, fake ones {fake.shape[1]}: use one feature space for both"
        )


def _as_tensor(features: object, argument: str) -> Tensor:
    if isinstance(features, Tensor):
        return features.detach()
    if not isinstance(features, np.ndarray):
        raise TypeError(f"{argument}: features are a torch tensor or a NumPy array, got {type(features).__name__}")
    if features.dtype.kind not in "fiu":
        raise TypeError(f"{argument}: features are floats, got {features.dtype}")
    native = np.ascontiguousarray(features, dtype=features.dtype.newbyteorder("="))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(native)
