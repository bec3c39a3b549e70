"""All scales in one module, to be saved and read as one."""

from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from discrete_diffusion.imagebart.checkpoints import OfficialScale, read_imagebart
from discrete_diffusion.imagebart.decoder_only import DecoderOnly
from discrete_diffusion.imagebart.encoder_decoder import EncoderDecoder
from discrete_diffusion.imagebart.forward_process import Multinomial
from discrete_diffusion.imagebart.schedule import explicit


class ImageBART(nn.Module, PyTorchModelHubMixin):
    """The denoisers of all scales with their process: `sample(model.denoisers, (b, n), process=model.process)`.

    Args:
        keep: `abar_0 .. abar_n` of the schedule.
        encoder_decoders: arguments of an `EncoderDecoder` for each of the scales 1, 2, ..; or of a single one, which
            then serves them all.
        decoder_only: arguments of the `DecoderOnly` of the last scale; None where an encoder-decoder serves it too.

    Raises:
        ValueError: if there are not as many networks as scales, or they differ in codes, grid or prefix.

    Source: ImageBART encoder-decoder scales, decoder-only scale
    """

    def __init__(
        self,
        *,
        keep: Sequence[float],
        encoder_decoders: Sequence[Mapping[str, Any]],
        decoder_only: Mapping[str, Any] | None,
    ) -> None:
        super().__init__()
        scales = len(keep) - 1
        wanted = scales if decoder_only is None else scales - 1
        if len(encoder_decoders) not in (1, wanted) or (wanted == 0 and encoder_decoders):
            raise ValueError(
                f"encoder_decoders: {len(encoder_decoders)} for {wanted} scales; give one for each, or one"
            )
        self.encoder_decoders = nn.ModuleList(EncoderDecoder(**arguments) for arguments in encoder_decoders)
        self.decoder_only = None if decoder_only is None else DecoderOnly(**decoder_only)
        networks = self.networks
        for name in ("codes", "grid", "prefix"):
            found = [getattr(network, name) for network in networks]
            if len(set(found)) > 1:
                raise ValueError(f"{name}: the scales' networks must agree, got {found}")
        self.process = Multinomial(explicit(keep, networks[0].codes))

    @property
    def networks(self) -> list[EncoderDecoder | DecoderOnly]:
        """Every network once, from the finest scale to the coarsest."""
        last = [] if self.decoder_only is None else [self.decoder_only]
        return [*(module for module in self.encoder_decoders if isinstance(module, EncoderDecoder)), *last]

    @property
    def denoisers(self) -> list[EncoderDecoder | DecoderOnly]:
        """The denoiser of each scale, that of scale t at t - 1."""
        networks = self.networks
        last = [] if self.decoder_only is None else [networks.pop()]
        shared = self.process.scales - len(last)
        return [*(networks * shared if len(networks) == 1 else networks), *last]

    @classmethod
    def from_imagebart(
        cls,
        files: Sequence[tuple[Mapping[str, Tensor], Mapping[str, Any]]],
        *,
        averaged: bool = True,
        prefix: int | None = None,
        grid: Sequence[int] | None = None,
    ) -> "ImageBART":
        """All scales of an official model.

        Args:
            files: `state_dict` and configuration of each scale's checkpoint, from the finest to the coarsest, as
                `read_imagebart` takes them; or those of the one checkpoint that serves all.
            averaged: read the moving averages of the weights.
            prefix: number of tokens that condition, where the configurations do not say.
            grid: (h, w) of the tokens; square unless given.

        Raises:
            ValueError: if there are not as many files as scales, they are in another order, or their schedules differ.
        """
        scales = [read_imagebart(*file, averaged=averaged, prefix=prefix, grid=grid) for file in files]
        _check_order(scales)
        last = next((scale for scale in scales if scale.kind is DecoderOnly), None)
        model = cls(
            keep=scales[0].keep,
            encoder_decoders=[scale.arguments for scale in scales if scale is not last],
            decoder_only=None if last is None else last.arguments,
        )
        for scale, network in zip(scales, model.networks, strict=True):
            scale.load(network)
        return model


def _check_order(scales: Sequence[OfficialScale]) -> None:
    """Whether the checkpoints are those of one chain, from the finest scale to the coarsest."""
    if not scales:
        raise ValueError("files: give the checkpoint of each scale, from the finest to the coarsest")
    wanted, served = len(scales[0].keep) - 1, [scale.scale for scale in scales]
    if served != [None] and served != list(range(1, wanted + 1)):
        raise ValueError(f"files: checkpoints of scales {served}, expected those of 1 .. {wanted}, in this order")
    if any(list(scale.keep) != list(scales[0].keep) for scale in scales):
        raise ValueError(f"files: the schedules differ: {[list(scale.keep) for scale in scales]}")
    if any(scale.kind is DecoderOnly for scale in scales[:-1]):
        raise ValueError("files: only the coarsest scale can be decoder-only, since it does not read a coarser one")
