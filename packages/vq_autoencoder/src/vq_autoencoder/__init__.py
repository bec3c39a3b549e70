"""Images to tokens or latents and back, in three nouns.

* an autoencoder (`VQAutoencoder`, `KLAutoencoder`, ...): `encode(images) -> Tokens | Latents`, `decode(...) -> images`
* a bottleneck (`VectorQuantizer`, `DiagonalGaussian`, ...): what stands between the two networks, and what it costs
* an objective (`FirstStageObjective`): distance, bottleneck and adversary (`PatchGAN`), one loss per example
"""

from .autoencoder import FSQAutoencoder as FSQAutoencoder
from .autoencoder import GumbelAutoencoder as GumbelAutoencoder
from .autoencoder import LFQAutoencoder as LFQAutoencoder
from .autoencoder import TokenAutoencoder as TokenAutoencoder
from .autoencoder import VQAutoencoder as VQAutoencoder
from .checkpoints import discriminator_from_taming as discriminator_from_taming
from .checkpoints import from_compvis as from_compvis
from .checkpoints import from_taming as from_taming
from .checkpoints import remapping_from_taming as remapping_from_taming
from .codes import Quantised as Quantised
from .codes import Quantizer as Quantizer
from .codes import perplexity as perplexity
from .codes import usage as usage
from .diffusers_folders import from_diffusers as from_diffusers
from .diffusers_folders import read_diffusers as read_diffusers
from .diffusers_folders import to_diffusers as to_diffusers
from .diffusers_folders import write_diffusers as write_diffusers
from .discriminator import PatchGAN as PatchGAN
from .gumbel import GumbelQuantizer as GumbelQuantizer
from .kl_autoencoder import KLAutoencoder as KLAutoencoder
from .lattice import FiniteScalarQuantizer as FiniteScalarQuantizer
from .lattice import LookupFreeQuantizer as LookupFreeQuantizer
from .layout import Layout as Layout
from .nearest import nearest_code as nearest_code
from .networks import Decoder as Decoder
from .networks import Encoder as Encoder
from .objective import Autoencoding as Autoencoding
from .objective import FirstStageObjective as FirstStageObjective
from .objective import absolute_error as absolute_error
from .objective import adaptive_weight as adaptive_weight
from .objective import gradient_difference as gradient_difference
from .objective import hinge_loss as hinge_loss
from .objective import logistic_loss as logistic_loss
from .objective import mean_over_elements as mean_over_elements
from .objective import sum_over_elements as sum_over_elements
from .posterior import DiagonalGaussian as DiagonalGaussian
from .presets import PRESETS as PRESETS
from .presets import Preset as Preset
from .pretrained import check_sha256 as check_sha256
from .pretrained import read_weights as read_weights
from .quantizer import VectorQuantizer as VectorQuantizer
from .remapping import Remapping as Remapping
from .results import Latents as Latents
from .results import Reconstruction as Reconstruction
from .results import Tokens as Tokens
from .tiling import Tiling as Tiling
from .tiling import decode_tiled as decode_tiled
from .tiling import encode_tiled as encode_tiled
