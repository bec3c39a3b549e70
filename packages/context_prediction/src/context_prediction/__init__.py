"""The context-prediction loss of ConPreDiff for any denoiser: predict the distribution of every point's neighbours.

Three nouns: a *neighbourhood* says who stands around each unit of a grid, a *decoder* generates neighbours from the
features of one unit, and a *distance* between the generated and the real ones is the loss, weighed over time by a
*weight*.
"""

from .assignment import linear_assignment as linear_assignment
from .bound import AggregationBound as AggregationBound
from .bound import aggregate as aggregate
from .bound import aggregate_log_probabilities as aggregate_log_probabilities
from .bound import arrivals as arrivals
from .bound import bound as bound
from .bound import discrete_bound as discrete_bound
from .bound import ordered_loss as ordered_loss
from .capture import Captured as Captured
from .capture import capture as capture
from .decoder import DirectDecoder as DirectDecoder
from .decoder import DistributionDecoder as DistributionDecoder
from .decoder import Gaussian as Gaussian
from .decoder import LogScale as LogScale
from .distances import Distance as Distance
from .distances import Sinkhorn as Sinkhorn
from .distances import SlicedWasserstein as SlicedWasserstein
from .distances import chamfer as chamfer
from .distances import energy_distance as energy_distance
from .distances import gaussian_wasserstein as gaussian_wasserstein
from .loss import ContextLoss as ContextLoss
from .loss import ContextPrediction as ContextPrediction
from .loss import DirectContextPrediction as DirectContextPrediction
from .neighbourhood import Border as Border
from .neighbourhood import Neighbourhood as Neighbourhood
from .neighbourhood import NeighbourPositions as NeighbourPositions
from .neighbourhood import Neighbours as Neighbours
from .neighbourhood import gather as gather
from .plan import transport_plan as transport_plan
from .tokens import as_grid as as_grid
from .tokens import as_tokens as as_tokens
from .transport import wasserstein as wasserstein
from .transport import wasserstein_rms as wasserstein_rms
from .trunk import Block as Block
from .trunk import ResidualBlock as ResidualBlock
from .trunk import TransformerBlock as TransformerBlock
from .weight import Constant as Constant
from .weight import Linear as Linear
from .weight import Signal as Signal
from .weight import TotalLoss as TotalLoss
from .weight import Weight as Weight
from .weight import total_loss as total_loss
