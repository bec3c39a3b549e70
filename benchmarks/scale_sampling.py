"""Drawing one scale of ImageBART, 16 x 16 tokens: with key and value caches, and without.

python benchmarks/scale_sampling.py [--batches 1 8] [--repeats N] [--published] [--skip-whole]

`cached` is ours: the encoder runs once, then every token costs one position of the decoder. `growing prefix` is the
same network without caches: the encoder still runs once, and every token costs a pass over all tokens before it.
`whole` also runs the encoder, and the decoder over all 256 positions, at every token. Their logits are the cached ones,
which is checked. `cached` is timed at every token; the others at nine of the 256, first and last among them, and taken
to be linear in between: all tokens of `whole` cost the same, and a prefix costs as many positions as it has, and a
constant.

What to expect, for a decoder of P parameters and n = 256 tokens: a cached token costs P multiplications (and a few per
cent for attention), a growing prefix P (n + 1) / 2 on average, so that the work is 128 times less. But one position at
a time is bound by reading the weights, at a tenth of the speed of a matrix product: ten times as fast at batch 1, and
more in larger batches, whose images share the weights that are read. The last position attends to 256 keys, the first
to one: 4 x 256 d bytes more per layer, image, and keys or values, against 4 x 14 d^2 (decoder-only: 12 d^2) of weights;
at d = 512 and batch 1 some 4 %. Where eight images have caches of their own and still share the weights, it is more.

Without --published the networks are half as wide as the published ones and have fewer layers: width 512, 12 and 6
layers, or 12. With it they are those of the preset ffhq-2: width 1152, 32 and 6 layers, or 36 of width 1216; that needs
3 GiB. Time per token is the median over the repeats, by position; flatness is the last quarter's over the first's.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from timing import report
from torch import Tensor

from discrete_diffusion.imagebart import PRESETS, DecoderOnly, EncoderDecoder, Filter
from discrete_diffusion.imagebart.sampler import inverse_cumulative

N = 256
PLACES = (0, *range(31, N, 32))
HALF: dict[str, Any] = {"codes": 1024, "grid": (16, 16), "width": 512, "heads": 8}
Network = EncoderDecoder | DecoderOnly
Logits = Callable[[int], Tensor]


def built(published: bool) -> Mapping[str, Callable[[], Network]]:
    """The networks by their names, one to be built at a time."""
    if published:
        preset = PRESETS["ffhq-2"]
        assert preset.encoder_decoder is not None
        finer, last = preset.encoder_decoder, preset.decoder_only
        return {"encoder-decoder": lambda: EncoderDecoder(**finer), "decoder-only": lambda: DecoderOnly(**last)}
    return {
        "encoder-decoder": lambda: EncoderDecoder(**HALF, encoder_depth=12, decoder_depth=6),
        "decoder-only": lambda: DecoderOnly(**HALF, depth=12),
    }


def growing_prefix(network: Network, x_t: Tensor, t: Tensor, target: Tensor) -> Logits:
    """The logits of token i, from the decoder over all tokens before it."""
    states = network.encode(x_t, t) if isinstance(network, EncoderDecoder) else None
    first = torch.full_like(t, network.start_token) if isinstance(network, EncoderDecoder) else t

    def logits(i: int) -> Tensor:
        x = network.tokens(torch.cat([first[:, None], target[:, :i]], 1)) + network.positions.weight[: i + 1]
        memories = None if states is None else network.decoder.memories(states)
        return network.logits(network.norm(network.decoder(x, memories)[:, -1]))

    return logits


def whole(network: Network, x_t: Tensor, t: Tensor, target: Tensor) -> Logits:
    """The logits of token i, from everything."""
    return lambda i: network(x_t, t, target=target).value[:, i]


def drawn(logits: Tensor, u: Tensor) -> Tensor:
    """What every way does beside its network: the token of the logits."""
    return inverse_cumulative(Filter()(logits), u)


@dataclass(frozen=True)
class Cached:
    """Seconds until the first token can be drawn, then of each token; the tokens (b, n), and the logits of each."""

    begun: float
    seconds: list[float]
    tokens: Tensor
    logits: list[Tensor]


def cached(network: Network, x_t: Tensor, t: Tensor, u: Tensor) -> Cached:
    """Draw with caches."""
    start = time.perf_counter()
    step = network.decode(x_t, t)
    clock = [time.perf_counter()]
    tokens: list[Tensor] = []
    found: list[Tensor] = []
    for i in range(N):
        found.append(step(tokens[-1] if tokens else None))
        tokens.append(drawn(found[-1], u[:, i]))
        clock.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(clock)]
    return Cached(clock[0] - start, seconds, torch.stack(tokens, 1), found)


def uncached_times(logits: Callable[[], Logits], u: Tensor) -> tuple[float, dict[int, float]]:
    """Seconds until the first token can be drawn, then of the tokens at some places."""
    start = time.perf_counter()
    at, seconds = logits(), {}
    begun = time.perf_counter() - start
    for i in PLACES:
        start = time.perf_counter()
        drawn(at(i), u[:, i])
        seconds[i] = time.perf_counter() - start
    return begun, seconds


def of_all_tokens(seconds: Mapping[int, float]) -> float:
    """The sum over all tokens of times that are linear between the places where they are known."""
    total = seconds[PLACES[0]]
    for left, right in pairwise(PLACES):
        slope = (seconds[right] - seconds[left]) / (right - left)
        total += sum(seconds[left] + slope * (i - left) for i in range(left + 1, right + 1))
    return total


def check(ways: Mapping[str, Callable[[], Logits]], found: Cached) -> None:
    """Whether every way gives the logits of the cached one."""
    for name, way in ways.items():
        at = way()
        worst = max(float((at(i) - found.logits[i]).abs().max()) for i in PLACES[::4])
        assert worst < 1e-4, f"{name}: logits differ by {worst:.1e}"


def encoder_passes(network: Network, draw: Callable[[], Cached]) -> tuple[int, Cached]:
    """How often the encoder runs while one scale is drawn, and what is drawn."""
    calls: list[object] = []
    if isinstance(network, DecoderOnly):
        return 0, draw()
    hook = network.encoder.register_forward_pre_hook(lambda *_: calls.append(None))
    found = draw()
    hook.remove()
    return len(calls), found


def measure(name: str, network: Network, batch: int, options: argparse.Namespace) -> None:
    """Time one network at one batch, and report it."""
    size = "published" if options.published else "half"
    x_t = torch.randint(network.codes, (batch, N))
    t, u = torch.ones(batch, dtype=torch.long), torch.rand(batch, N, dtype=torch.float64)
    passes, first = encoder_passes(network, lambda: cached(network, x_t, t, u))
    target = first.tokens
    ways: dict[str, Callable[[], Logits]] = {"growing prefix": lambda: growing_prefix(network, x_t, t, target)}
    if not options.skip_whole:
        ways["whole"] = lambda: whole(network, x_t, t, target)
    check(ways, first)
    times: dict[str, list[float]] = {way: [] for way in ("growing prefix", "cached", *ways)}
    rounds = []
    for _ in range(options.repeats):
        found = cached(network, x_t, t, u)
        times["cached"].append(found.begun + sum(found.seconds))
        rounds.append(found.seconds)
        for way, logits in ways.items():
            begun, places = uncached_times(logits, u)
            times[way].append(begun + of_all_tokens(places))
    per_token = [statistics.median(column) for column in zip(*rounds, strict=True)]
    quarters = [statistics.median(per_token[i : i + N // 4]) * 1e3 for i in range(0, N, N // 4)]
    quicker = {way: statistics.median(times[way]) / statistics.median(times["cached"]) for way in ways}
    notes = (
        f"{batch} x {N} tokens, K = {network.codes}, {size} size ({parameters(network):,} parameters), float32. Cached "
        f"it is {' and '.join(f'{ratio:.1f} times as fast as {way}' for way, ratio in quicker.items())}. Encoder "
        f"passes for a scale: {passes}. ms per token by quarter: "
        f"{', '.join(f'{q:.2f}' for q in quarters)}; last over first {quarters[-1] / quarters[0]:.3f}."
    )
    title = f"One scale of ImageBART, {name}, batch {batch}"
    report(f"scale-sampling-{name}-{size}-{batch}", title, times, baseline="growing prefix", notes=notes)


def parameters(network: Network) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="encoder-decoder or decoder-only (both)")
    parser.add_argument("--published", action="store_true", help="networks of the published size")
    parser.add_argument("--skip-whole", action="store_true", help="leave out the slowest baseline")
    options = parser.parse_args()
    for name, build in built(options.published).items():
        if options.only not in (None, name):
            continue
        torch.manual_seed(0)
        network = build().requires_grad_(False)
        for batch in options.batches:
            with torch.inference_mode():
                measure(name, network, batch, options)
        del network


if __name__ == "__main__":
    main()
