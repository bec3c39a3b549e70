"""Scores for generated images on feature arrays, each named for what it is.

Three nouns: a *feature space* turns uint8 images into rows of numbers, *statistics* summarise those rows, and a
*score* is a distance between them that carries its name, its sample counts and its interval.
"""

from .clip_score import clip_score as clip_score
from .clip_score import pair_cosines as pair_cosines
from .cmmd import cmmd as cmmd
from .cmmd import unit_rows as unit_rows
from .density_coverage import DensityCoverage as DensityCoverage
from .density_coverage import authenticity as authenticity
from .density_coverage import density_coverage as density_coverage
from .features import UNNAMED as UNNAMED
from .features import FeatureSpace as FeatureSpace
from .features import Space as Space
from .features import module_space as module_space
from .features import pixel_space as pixel_space
from .features import to_signed_range as to_signed_range
from .features import weights_sha256 as weights_sha256
from .frechet import frechet_distance as frechet_distance
from .frechet import gaussian_frechet_distance as gaussian_frechet_distance
from .frechet_infinity import frechet_distance_at_infinity as frechet_distance_at_infinity
from .inception_score import inception_score as inception_score
from .inception_score import log_probabilities as log_probabilities
from .inception_score import split_scores as split_scores
from .inception_space import MissingWeights as MissingWeights
from .inception_space import inception_space as inception_space
from .kernel_distance import CUBIC as CUBIC
from .kernel_distance import Gaussian as Gaussian
from .kernel_distance import Polynomial as Polynomial
from .kernel_distance import discrepancy as discrepancy
from .kernel_distance import kernel_distance as kernel_distance
from .kernel_distance import polynomial_discrepancy as polynomial_discrepancy
from .lpips import LPIPS as LPIPS
from .lpips import lpips_from_state_dicts as lpips_from_state_dicts
from .lpips_trunks import ALEX as ALEX
from .lpips_trunks import SQUEEZE as SQUEEZE
from .lpips_trunks import VGG as VGG
from .lpips_trunks import Trunk as Trunk
from .neighbours import ADM as ADM
from .neighbours import EXACT as EXACT
from .neighbours import Arithmetic as Arithmetic
from .neighbours import Manifold as Manifold
from .paired import psnr as psnr
from .paired import ssim as ssim
from .precision_recall import PrecisionRecall as PrecisionRecall
from .precision_recall import precision_recall as precision_recall
from .precision_recall import realism as realism
from .ranks import merge_ranks as merge_ranks
from .score import Score as Score
from .score import SmallSampleWarning as SmallSampleWarning
from .score import bootstrap as bootstrap
from .score import mean_score as mean_score
from .score import proportion as proportion
from .score import require_comparable as require_comparable
from .sliced_wasserstein import SlicedWasserstein as SlicedWasserstein
from .sliced_wasserstein import sliced_wasserstein as sliced_wasserstein
from .spatial_frechet import spatial_frechet_distance as spatial_frechet_distance
from .spatial_frechet import spatial_rows as spatial_rows
from .statistics import Accumulator as Accumulator
from .statistics import Statistics as Statistics
from .statistics import merge as merge
from .statistics_files import read_npz_statistics as read_npz_statistics
from .statistics_files import write_npz_statistics as write_npz_statistics
from .store import FeatureStore as FeatureStore

__version__ = "0.1.0"
