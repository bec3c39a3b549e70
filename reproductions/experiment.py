"""What is compared: tables of rows, each with the paper's number at its end.

An experiment says what, a profile (`profiles.py`) says how much.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum


class Kind(StrEnum):
    """How an approach makes an image."""

    GAN = "GAN"
    AUTOREGRESSIVE = "AR"
    PARALLEL = "non-AR"
    VAE = "VAE"
    NETWORK = "one pass"
    DISCRETE = "discrete"
    CONTINUOUS = "continuous"


class Backbone(StrEnum):
    """The denoiser that a measured row trains."""

    DISCRETE = "discrete"
    CONTINUOUS = "continuous"
    CASCADE = "cascade"


@dataclass(frozen=True)
class Context:
    """The context-prediction loss beside the diffusion loss.

    stride: Chebyshev radius of the neighbourhood; samples: draws per neighbourhood (`q`); latent: width of the draws in
    the decoder; weight: `lambda_0` of `lambda_t = lambda_0 * signal(t)`.

    Unstated: q, lambda_0 and the schedule of lambda_t are not reported; the stride 3 is only recalled.
    """

    stride: int = 3
    samples: int = 4
    latent: int = 32
    weight: float = 0.1

    @property
    def name(self) -> str:
        """The stride, and whatever else is not as usual."""
        unusual = [each.name for each in fields(self) if getattr(self, each.name) != each.default]
        return " ".join([str(self.stride), *(f"{name} {getattr(self, name)}" for name in unusual if name != "stride")])


class Fading(StrEnum):
    """How the weight of the context loss depends on time."""

    SIGNAL = "signal"
    LINEAR = "linear"
    CONSTANT = "constant"


class Matching(StrEnum):
    """The distance of generated neighbours from real ones."""

    TRANSPORT = "Wasserstein"
    ENERGY = "energy"
    CHAMFER = "chamfer"


class Reading(StrEnum):
    """What the context head reads of a denoiser."""

    FEATURES = "features"
    ESTIMATE = "estimate"


class Beyond(StrEnum):
    """What stands beyond the edge of a grid."""

    NOTHING = "nothing"
    OPPOSITE = "opposite edge"


@dataclass(frozen=True)
class AblatedContext(Context):
    """The context loss with what the paper leaves open chosen otherwise; the defaults are those of `Context`.

    It is a class of its own so that the hashes of trainings with a `Context` stay what they are.
    """

    fading: Fading = Fading.SIGNAL
    distance: Matching = Matching.TRANSPORT
    reads: Reading = Reading.FEATURES
    beyond: Beyond = Beyond.NOTHING


@dataclass(frozen=True)
class DirectContext:
    """The same where every neighbour is predicted, in order, and compared by its squared error.

    stride: Chebyshev radius of the neighbourhood; weight: `lambda_0`, as in `Context`.
    """

    stride: int = 3
    weight: float = 0.1


AnyContext = Context | DirectContext


@dataclass(frozen=True)
class Method:
    """What a measured row trains: a backbone, with or without the context loss.

    purity: whether tokens are drawn by their purity; the training is that of the row without it.
    """

    backbone: Backbone
    context: Context | None = None
    purity: bool = False


class Family(StrEnum):
    """The published models that are trained on pictures alone, or on their classes."""

    DDPM = "DDPM"
    LDM = "LDM"
    DIT = "DiT"
    VQ_DIFFUSION = "VQ-Diffusion"
    IMPROVED_VQ_DIFFUSION = "Improved VQ-Diffusion"
    IMAGEBART = "ImageBART"


@dataclass(frozen=True)
class Model:
    """What a measured row trains: a published model, with or without the context loss.

    samples: that its training sees, where not as many as the recipe says.
    """

    family: Family
    context: AnyContext | None = None
    samples: int | None = None


@dataclass(frozen=True)
class Row:
    """One line of a table: an approach, the paper's numbers, and how we measure it (None: cited only).

    baseline: the row that this one adds the context loss to; trained_as: the row whose training this one draws from.
    """

    approach: str
    kind: Kind
    paper: Mapping[str, float | None] = field(default_factory=dict)
    method: Method | Model | None = None
    baseline: str | None = None
    note: str = ""
    trained_as: str | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper: its columns there, and all its rows."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def measured(self) -> tuple[Row, ...]:
        """The rows that we can run."""
        return tuple(row for row in self.rows if row.method is not None)

    def select(self, names: str | None) -> tuple[Row, ...]:
        """The measured rows called `names` ("A,B"; None: all of them).

        Raises:
            ValueError: for a row that the table has not, or that is cited only.
        """
        if names is None:
            return self.measured
        wanted = [name.strip() for name in names.split(",") if name.strip()]
        known = {row.approach.casefold(): row for row in self.measured}
        unknown = [name for name in wanted if name.casefold() not in known]
        if unknown or not wanted:
            cited = {row.approach.casefold() for row in self.rows} - set(known)
            said = ", ".join(f"{n!r}" + (" (cited, cannot be run)" if n.casefold() in cited else "") for n in unknown)
            raise ValueError(
                f"--rows: {self.name} cannot measure {said or 'an empty list'}; "
                f"choose from {', '.join(row.approach for row in self.measured)}"
            )
        return tuple(row for key, row in known.items() if key in {name.casefold() for name in wanted})
