"""Drawing one scale of ImageBART, 16 x 16 tokens: with key and value caches, and without.

python benchmarks/scale_sampling.py [--batch B] [--repeats N] [--width D] [--codes K]

`cached` is ours: the encoder runs once, then every token costs one position of the decoder. `growing prefix` is the
same network without caches: the encoder still runs once, and every token costs a pass over all tokens before it.
`whole` also runs the encoder and all 256 positions at every token. All three draw the same tokens, which is checked.

What to expect, for a decoder of P parameters and n = 256 tokens: a cached token costs P multiplications (and a few per
cent for attention), a growing prefix P (n + 1) / 2 on average, so that the work is 128 times less. But a position at a
time is bound by reading the weights, at a tenth of the speed of a matrix product: ten times as fast at batch 1, more
in larger batches. The last position attends to 256 keys, the first to one: 512 d multiplications more per layer against
12 d^2 or 16 d^2, at d = 512 and batch 1 some 5 %; each further image adds keys to read, but no weights.

The time per token is the median over the repeats, by position; flatness is the last quarter's over the first's.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from timing import interleave, report
from torch import Tensor

from discrete_diffusion.drawing import uniform
from discrete_diffusion.imagebart import DecoderOnly, EncoderDecoder, Filter, draw_scale
from discrete_diffusion.imagebart.sampler import inverse_cumulative

GRID = (16, 16)
Network = EncoderDecoder | DecoderOnly


def growing_prefix(network: Network, x_t: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
    """The same tokens from the same numbers, the decoder over everything drawn so far at each of them."""
    states = network.encode(x_t, t) if isinstance(network, EncoderDecoder) else None
    first = torch.full_like(t, network.start_token) if isinstance(network, EncoderDecoder) else t

    def logits(drawn: Tensor) -> Tensor:
        x = network.tokens(torch.cat([first[:, None], drawn], 1)) + network.positions.weight[: drawn.shape[1] + 1]
        memories = None if states is None else network.decoder.memories(states)
        return network.logits(network.norm(network.decoder(x, memories)[:, -1]))

    return draw(logits, x_t, generator)


def whole(network: Network, x_t: Tensor, t: Tensor, generator: torch.Generator) -> Tensor:
    """The same tokens from the same numbers, everything computed at each of them."""

    def logits(drawn: Tensor) -> Tensor:
        target = torch.nn.functional.pad(drawn, (0, x_t.shape[1] - drawn.shape[1]))
        return network(x_t, t, target=target).value[:, drawn.shape[1]]

    return draw(logits, x_t, generator)


def draw(logits: Callable[[Tensor], Tensor], x_t: Tensor, generator: torch.Generator) -> Tensor:
    u, drawn = uniform(tuple(x_t.shape), device=x_t.device, generator=generator), x_t[:, :0]
    for i in range(x_t.shape[1]):
        token = inverse_cumulative(Filter()(logits(drawn)), u[:, i])
        drawn = torch.cat([drawn, token[:, None]], 1)
    return drawn


def time_per_token(network: Network, x_t: Tensor, t: Tensor, repeats: int) -> list[float]:
    """Median seconds of each position's call, drawn tokens being those of `x_t`."""
    rounds = []
    for _ in range(repeats):
        step, previous, seconds = network.decode(x_t, t), None, []
        for i in range(x_t.shape[1]):
            start = time.perf_counter()
            step(previous)
            seconds.append(time.perf_counter() - start)
            previous = x_t[:, i]
        rounds.append(seconds)
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def encoder_passes(network: Network, x_t: Tensor, t: Tensor) -> int:
    """How often the encoder runs while one scale is drawn."""
    calls: list[object] = []
    if isinstance(network, EncoderDecoder):
        network.encoder.register_forward_pre_hook(lambda *_: calls.append(None))
    draw_scale(network, x_t, t)
    return len(calls)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--skip-whole", action="store_true", help="leave out the slowest baseline")
    options = parser.parse_args()
    torch.manual_seed(0)
    size = {"codes": options.codes, "grid": GRID, "width": options.width, "heads": options.width // 64}
    networks: dict[str, Network] = {
        "encoder-decoder": EncoderDecoder(**size, encoder_depth=12, decoder_depth=6),
        "decoder-only": DecoderOnly(**size, depth=12),
    }
    n = GRID[0] * GRID[1]
    x_t, t = torch.randint(options.codes, (options.batch, n)), torch.ones(options.batch, dtype=torch.long)
    for name, network in networks.items():
        network.requires_grad_(False)
        candidates = {
            "growing prefix": lambda net=network: growing_prefix(net, x_t, t, torch.Generator().manual_seed(1)),
            "cached": lambda net=network: draw_scale(net, x_t, t, generator=torch.Generator().manual_seed(1)),
        }
        if not options.skip_whole:
            candidates["whole"] = lambda net=network: whole(net, x_t, t, torch.Generator().manual_seed(1))
        expected = candidates["cached"]()
        for candidate in candidates.values():
            same = (candidate() == expected).all(1).float().mean().item()
            assert same > 0.5, f"only {same:.0%} of the images are the same; rounding moves a token now and then"
        times = interleave(candidates, repeats=options.repeats, warmup=0)
        per_token = time_per_token(network, x_t, t, max(5, options.repeats))
        quarters = [statistics.median(per_token[i : i + n // 4]) * 1e3 for i in range(0, n, n // 4)]
        quicker = statistics.median(times["growing prefix"]) / statistics.median(times["cached"])
        notes = (
            f"{options.batch} x {n} tokens, K = {options.codes}, width {options.width}, float32. Caches make it "
            f"{quicker:.1f} times as fast. Encoder passes: {encoder_passes(network, x_t, t)}. ms per token by quarter: "
            f"{', '.join(f'{q:.2f}' for q in quarters)}; last over first {quarters[-1] / quarters[0]:.3f}."
        )
        title = f"One scale of ImageBART, {name}"
        report(f"scale-sampling-{name}", title, times, baseline="growing prefix", notes=notes)


if __name__ == "__main__":
    main()
