"""Which codes ImageBART may draw, scale by scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reproductions.stages.discrete import Filter


@dataclass(frozen=True)
class Walk:
    """Which codes may be drawn: a number for all scales, or one for each, that of scale 1 first; none: all codes."""

    temperature: tuple[float, ...] = (1.0,)
    top_k: tuple[int, ...] = ()
    top_p: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """What tells it from other walks."""
        given = {"top": self.top_k, "top p": self.top_p}
        given["temperature"] = () if set(self.temperature) <= {1.0} else self.temperature
        parts = [f"{name} {' '.join(f'{value:g}' for value in values)}" for name, values in given.items() if values]
        return " ".join(parts) or "all codes"

    def filters(self, scales: int) -> list[Filter]:
        """The filter of each scale, that of scale 1 first.

        Raises:
            ValueError: if something is out of range, or there are other numbers of them than 1 and that of the scales.
        """
        columns: list[Sequence[Any]] = []
        for name, values, otherwise in (
            ("temperature", self.temperature, 1.0),
            ("top-k", self.top_k, None),
            ("top-p", self.top_p, None),
        ):
            if len(values) not in (0, 1, scales):
                raise ValueError(f"--{name}: {len(values)} numbers for {scales} scales; give one, or one for each")
            columns.append((values if len(values) == scales else values * scales) or (otherwise,) * scales)
        rows = zip(*columns, strict=True)
        return [Filter(temperature=temperature, top_k=k, top_p=p) for temperature, k, p in rows]
