"""Captions to tokens to states, by the small encoder that is trained with a denoiser of either kind, or by CLIP's."""

import warnings
from collections.abc import Sequence

from torch import Tensor

from discrete_diffusion import BytePairs as BytePairs
from discrete_diffusion import CaptionEncoder as CaptionEncoder
from discrete_diffusion import ClipText as ClipText


def tokens_of(captions: Sequence[str], tokenizer: BytePairs) -> Tensor:
    """Tokens (b, l) of a data set's captions; those that are cut were counted when the words were learnt."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "caption of .* is cut", UserWarning)
        return tokenizer(captions)
