"""The feature space that a table is scored in: the one asked for, or the one that its size stands for."""

from pathlib import Path

from reproductions.located import Located
from reproductions.stages import scoring
from reproductions.stages.evaluating import SPACES

PUBLISHED = {"paper": "inception-legacy_tensorflow"}
"""The spaces of sizes whose numbers are to be those of papers."""


def space_of(features: str | None, profile: str) -> scoring.Space | None:
    """The space called `features`, or that of a file of weights; None: that of the profile, where it has one.

    Raises:
        ValueError or OSError: where it is neither a name nor the place of weights.
    """
    features = features or PUBLISHED.get(profile)
    if features is None or features in SPACES:
        return None if features is None else scoring.Space(name=features)
    path = Path(features).expanduser()
    if not path.is_file():
        raise ValueError(
            f"--features: there is no feature space and no file {features!r}; choose from {', '.join(SPACES)}, or give "
            "the path of the weights of a CIFAR residual network"
        )
    return scoring.Space(name="cifar", weights=Located(path))


def check(space: scoring.Space) -> None:
    """Open a space before any work, so that weights which are missing are missed now.

    Raises:
        ValueError or OSError: where they are.
    """
    if space.drawings is None:
        space.open({})
