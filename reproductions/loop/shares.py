"""Parts of a batch, for ranks side by side or one after the other, that draw the numbers that the whole would draw."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.overrides import TorchFunctionMode

from reproductions.loop.streams import stream, stream_key

Batch = tuple[Any, ...]
Given = tuple[Batch, torch.Generator]
FACTORIES = (torch.rand, torch.randn)
IN_PLACE = (Tensor.normal_, Tensor.uniform_, Tensor.exponential_)


@dataclass(frozen=True)
class Share:
    """Every `count`-th example of a batch, from `index` on."""

    index: int
    count: int

    def of(self, batch: Tensor) -> Tensor:
        """This share of what has a row for every example."""
        return batch[self.index :: self.count]

    def drawn(self, examples: int) -> AbstractContextManager[Any]:
        """Where this share, of so many examples, draws its part of the numbers of the whole batch."""
        return nullcontext() if self.count == 1 else WholeBatch(self, examples)


def shares(accelerator: Accelerator, batch: int) -> list[Share]:
    """The shares of a global batch that this rank takes, one after the other.

    Raises:
        ValueError: where the batch is not divided evenly.
    """
    ranks, parts = accelerator.num_processes, accelerator.gradient_accumulation_steps
    if batch % (ranks * parts):
        raise ValueError(
            f"the batch of {batch} is not shared evenly by {ranks} ranks in {parts} parts each; take a batch that is a "
            f"multiple of {ranks * parts}, or other numbers of either"
        )
    return [Share(part * ranks + accelerator.process_index, ranks * parts) for part in range(parts)]


class WholeBatch(TorchFunctionMode):
    """Draws random numbers for all examples of a batch wherever a generator draws them for those of one share.

    What is drawn has rows for examples in its first dimension, or for parts of examples, example by example; other
    draws are the same for all shares.
    """

    def __init__(self, share: Share, examples: int) -> None:
        super().__init__()
        self.share, self.examples = share, examples

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is None:
            return func(*args, **kwargs)
        if func in FACTORIES:
            shape = tuple(args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
            return self._kept(lambda whole: func(whole, **kwargs), shape)
        if func is torch.randint:
            *bounds, shape = args
            return self._kept(lambda whole: func(*bounds, whole, **kwargs), tuple(shape))
        if func is torch.multinomial:
            return self._kept(lambda whole: func(args[0], *whole, **kwargs), (args[1],))
        if func in IN_PLACE:
            into, *rest = args
            return into.copy_(self._kept(lambda whole: func(into.new_empty(whole), *rest, **kwargs), tuple(into.shape)))
        return func(*args, **kwargs)

    def _kept(self, draw: Callable[[tuple[int, ...]], Tensor], shape: tuple[int, ...]) -> Tensor:
        if not shape or shape[0] % self.examples:
            return draw(shape)
        whole = draw((shape[0] * self.share.count, *shape[1:]))
        return self.share.of(whole.unflatten(0, (self.examples * self.share.count, -1))).flatten(0, 1)


def given(
    batch: Callable[[Tensor, torch.Generator], Batch],
    indices: Tensor,
    mine: Sequence[Share],
    seed: int,
    step: int,
    device: torch.device,
) -> Generator[Given, None, None]:
    """What a step is given of the examples at `indices`, share by share; what is drawn for it meanwhile is its share.

    On a processor, all shares draw the numbers of the whole batch, and keep theirs, so that any number of ranks and
    parts trains the same. On a GPU, each draws numbers of its own.
    """
    for share in mine:
        taken = share.of(indices)
        own = stream(seed, step, share.index, device)
        whole = device.type == "cpu"
        generator = torch.Generator(device).manual_seed(stream_key(seed, step, 0)) if whole else own
        with share.drawn(len(taken)) if whole else nullcontext():
            yield batch(taken, generator), generator
