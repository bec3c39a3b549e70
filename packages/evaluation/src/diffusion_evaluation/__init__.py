"""Scores for generated images on feature arrays, each named for what it is.

Three nouns: a *feature space* turns uint8 images into rows of numbers, *statistics* summarise those rows, and a
*score* is a distance between them that carries its name, its sample counts and its interval.
"""

from .features import UNNAMED as UNNAMED
from .features import FeatureSpace as FeatureSpace
from .features import Space as Space
from .features import module_space as module_space
from .features import pixel_space as pixel_space
from .features import to_signed_range as to_signed_range
from .features import weights_sha256 as weights_sha256
from .frechet import frechet_distance as frechet_distance
from .frechet import gaussian_frechet_distance as gaussian_frechet_distance
from .kernel_distance import kernel_distance as kernel_distance
from .kernel_distance import polynomial_discrepancy as polynomial_discrepancy
from .paired import psnr as psnr
from .score import Score as Score
from .score import SmallSampleWarning as SmallSampleWarning
from .score import bootstrap as bootstrap
from .score import mean_score as mean_score
from .score import proportion as proportion
from .score import require_comparable as require_comparable
from .sliced_wasserstein import SlicedWasserstein as SlicedWasserstein
from .sliced_wasserstein import sliced_wasserstein as sliced_wasserstein
from .statistics import Accumulator as Accumulator
from .statistics import Statistics as Statistics
from .statistics import merge as merge
from .store import FeatureStore as FeatureStore

__version__ = "0.1.0"
