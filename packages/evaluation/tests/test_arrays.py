"""Feature arrays of either library become the same rows, and what are no features is refused by name."""

import numpy as np
import pytest
import torch

from diffusion_evaluation import CUBIC, discrepancy, frechet_distance, inception_score, precision_recall
from diffusion_evaluation.arrays import feature_rows, require_equal_width


def test_numpy_and_torch_give_the_same_rows_and_share_memory() -> None:
    array = np.arange(12, dtype=np.float32).reshape(4, 3)
    rows = feature_rows(array, "real")
    assert torch.equal(rows, torch.arange(12.0).reshape(4, 3))
    array[0, 0] = 7
    assert rows[0, 0] == 7
    tensor = torch.zeros(2, 2, requires_grad=True)
    assert not feature_rows(tensor, "real").requires_grad


def test_any_layout_byte_order_and_read_only_memory_are_taken() -> None:
    array = np.random.default_rng(0).standard_normal((5, 4))
    read_only = array.copy()
    read_only.setflags(write=False)
    for other in (array[::-1], array.T, array.astype(">f8"), read_only):
        assert np.array_equal(feature_rows(other, "real").numpy(), other)


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (torch.zeros(3, 2, dtype=torch.int64), TypeError, "real: features are floats, got torch.int64"),
        (np.zeros((3, 2), dtype=np.uint8), TypeError, "real: features are floats, got torch.uint8"),
        (np.zeros((3, 2), dtype=complex), TypeError, "real: features are floats, got complex128"),
        ([[1.0, 2.0]], TypeError, "real: features are a torch tensor or a NumPy array, got list"),
        (torch.zeros(3), ValueError, r"\(n, d\) with n and d at least 1, got \(3,\)"),
        (torch.zeros(0, 4), ValueError, r"got \(0, 4\)"),
        (torch.tensor([[1.0], [torch.nan], [torch.inf]]), ValueError, "2 of 3 rows are not finite, the first is row 1"),
    ],
)
def test_what_are_no_features_is_refused(features: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        feature_rows(features, "real")  # type: ignore[arg-type]


def test_unequal_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="real features have width 3, fake ones 4: use one feature space"):
        require_equal_width(torch.zeros(2, 3), torch.zeros(2, 4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_of_numpy_arrays_are_those_of_tensors(dtype: type) -> None:
    real, fake = np.random.default_rng(1).standard_normal((2, 30, 4)).astype(dtype)
    tensors = torch.from_numpy(real), torch.from_numpy(fake)
    assert discrepancy(real, fake, CUBIC) == discrepancy(*tensors, CUBIC)
    assert frechet_distance(real, fake) == frechet_distance(*tensors)
    assert inception_score(real, splits=2) == inception_score(tensors[0], splits=2)
    assert precision_recall(real, fake) == precision_recall(*tensors)
