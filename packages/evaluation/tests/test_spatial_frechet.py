"""The spatial distance is the distance of the maps' numbers, in any order of them."""

import pytest
import torch

from diffusion_evaluation import Accumulator, Space, frechet_distance, spatial_frechet_distance, spatial_rows


def drawn(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 5, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_equals_the_distance_of_the_first_channels_laid_out_channels_last() -> None:
    """Guided-diffusion lays maps out as height, width, channel; the distance does not care.

    Checks: Spatial features definition
    """
    real, fake, space = drawn(80, 0), 1.2 * drawn(60, 1) + 0.1, Space("toy")
    score = spatial_frechet_distance(real, fake, channels=2, space=space)
    last = [maps[:, :2].permute(0, 2, 3, 1).flatten(1) for maps in (real, fake)]
    assert score.value == pytest.approx(frechet_distance(*last).value, rel=1e-10)
    assert str(score).startswith("sFID[toy, N=80/60] ")
    assert spatial_frechet_distance(real.numpy(), fake.numpy(), channels=2).value == score.value


def test_knows_where_things_are_as_means_of_maps_do_not() -> None:
    real = drawn(400, 0)
    mirrored = real.flip(3)
    skewed = torch.tensor([0.0, 1.0, 3.0], dtype=torch.float64)
    means = [(maps + skewed_).mean(dim=(2, 3)) for maps, skewed_ in ((real, skewed), (mirrored, skewed.flip(0)))]
    assert frechet_distance(*means).value < 1e-9
    assert spatial_frechet_distance(real + skewed, mirrored + skewed.flip(0), channels=5).value > 1


def test_streams_and_names_what_is_wrong() -> None:
    real, accumulator = drawn(40, 0), Accumulator(Space("toy"))
    for part in real.split(15):
        accumulator.update(spatial_rows(part, channels=3))
    streamed = frechet_distance(accumulator.statistics, spatial_rows(drawn(40, 1), channels=3), space=Space("toy"))
    whole = spatial_frechet_distance(real, drawn(40, 1), channels=3, space=Space("toy"))
    assert streamed.value == pytest.approx(whole.value, rel=1e-12)
    with pytest.raises(ValueError, match="channels must be between 1 and the 5 of the feature maps, got 7"):
        spatial_frechet_distance(real, real)
