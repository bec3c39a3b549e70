"""VQ-Diffusion-B, 389 M parameters on 1024 tokens, against diffusers' `Transformer2DModel` with the same weights.

python benchmarks/denoiser.py [--batches 1 4] [--repeats N] [--threads N] [--precisions float32 bfloat16] [--tiny]

* forward: log-probabilities of the clean tokens, which must agree before anything is timed.
* sampling: one step from t = 50, guided (two forwards in one batch) or not. Ours is `trajectory` on a `Prepared`
  denoiser; diffusers' is its pipeline's: transformer, guidance, `truncate`, `VQDiffusionScheduler.step`. The row
  "network" is ours without the sampler, so that its distance from the row "step" is what the sampler costs.
* training: the peak memory of a process that takes two steps of AdamW at batch 2, on the cross-entropy of the clean
  tokens, which both can compute; diffusers' takes one time for the whole batch, since it knows no other.

What to expect, in GFLOP (10^9 multiplications and additions) of one forward of one image, by hand:

    19 blocks: self-attention 8.6 (projections) + 4.3, cross-attention 4.3 + 0.3, feed-forward 17.2     660
    keys and values of 77 states                                                                         3.1
    modulations of 38 norms                                                                              0.2
    the logits of 2887 codes                                                                             6.1

Both do the same products with the same library, so 0.99 of the work cannot differ. Keeping the text's keys and values
saves 0.5 % of it; keeping the modulations saves hardly any, but the reading of 0.3 of 1.6 GB of weights. What is left
to gain in float32 is in what surrounds the products: three passes over 4096 numbers a token in the activation, a
log-softmax in float64 over a transposed array, copies: predicted are 1.03 to 1.1 for a forward, and more in bfloat16,
where the products take half the time. In sampling the peer also sorts all codes twice in `truncate` (over a second in
one thread, where a forward takes seven): 1.15 to 1.2 unguided, 1.1 to 1.15 guided. A factor of 1.3 in float32 would
need a quarter of the products to vanish, and kept keys cannot do that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from nearest_code import peak_megabytes
from timing import RESULTS, command, interleave, machine, report
from torch import Tensor, nn

from discrete_diffusion import (
    PRESETS,
    Exact,
    ForwardProcess,
    Guided,
    Prepared,
    Schedule,
    State,
    TokenTransformer,
    from_diffusers,
    trajectory,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import diffusers
    from diffusers import Transformer2DModel, VQDiffusionPipeline, VQDiffusionScheduler

    diffusers.utils.logging.set_verbosity_error()

TRUNCATION, STEP = 0.86, 50
TINY = {"width": 64, "depth": 2, "heads": 4, "codes": 40, "grid": (8, 8)}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TOLERANCE = {"float32": {"atol": 2e-4, "rtol": 1e-4}, "bfloat16": {"atol": 0.3, "rtol": 0.1}}


class Pair:
    """The two with the same weights, and what they are given: tokens (b, n), half of them masks, and states."""

    def __init__(self, options: argparse.Namespace, batch: int, precision: str = "float32") -> None:
        torch.manual_seed(0)
        self.arguments = {**PRESETS["b"].arguments, **(TINY if options.tiny else {})}
        self.codes, (side, _) = self.arguments["codes"], self.arguments["grid"]
        self.peer = peer(self.arguments).to(PRECISIONS[precision])
        null = torch.randn(77, 512) * 0.02
        weights = {name: value.float() for name, value in self.peer.state_dict().items()}
        self.ours = from_diffusers(weights, dict(self.peer.config), null=null).to(PRECISIONS[precision])
        self.prepared = Prepared(self.ours)
        self.process = ForwardProcess(Schedule.released(100, self.codes))
        tokens = torch.randint(self.codes, (batch, side * side))
        self.x_t = tokens.masked_fill(torch.rand(tokens.shape) < 0.5, self.codes)
        self.states = F.normalize(torch.randn(batch, 77, 512), dim=-1).to(PRECISIONS[precision])

    def peer_forward(self, x_t: Tensor, states: Tensor) -> Tensor:
        return self.peer(x_t, encoder_hidden_states=states, timestep=torch.tensor(STEP - 1)).sample

    def our_forward(self, denoiser: TokenTransformer | Prepared, x_t: Tensor, states: Tensor) -> Tensor:
        t = torch.full((len(x_t),), STEP)
        return denoiser(x_t, t, states).value.float().log_softmax(-1)

    def with_null(self) -> tuple[Tensor, Tensor]:
        """The doubled batch of guidance, the conditional half first."""
        null = self.ours.null_condition(len(self.x_t), 77)
        return self.x_t.repeat(2, 1), torch.cat([self.states, null])


def peer(arguments: dict) -> Transformer2DModel:
    return Transformer2DModel(
        num_attention_heads=arguments["heads"],
        attention_head_dim=arguments["width"] // arguments["heads"],
        num_layers=arguments["depth"],
        cross_attention_dim=arguments["condition_width"],
        attention_bias=True,
        sample_size=arguments["grid"][0],
        num_vector_embeds=arguments["codes"] + 1,
        activation_fn="geglu-approximate",
        num_embeds_ada_norm=arguments["steps"],
        norm_type="ada_norm",
    )


@torch.inference_mode()
def forward(options: argparse.Namespace, batch: int, precision: str) -> None:
    pair = Pair(options, batch, precision)
    candidates: dict[str, Callable[[], Tensor]] = {
        "diffusers": lambda: pair.peer_forward(pair.x_t, pair.states),
        "ours": lambda: pair.our_forward(pair.ours, pair.x_t, pair.states),
        "ours, prepared": lambda: pair.our_forward(pair.prepared, pair.x_t, pair.states),
    }
    expected = candidates["diffusers"]().transpose(1, 2)
    for name in ("ours", "ours, prepared"):
        torch.testing.assert_close(candidates[name](), expected, **TOLERANCE[precision])
    times = interleave(candidates, repeats=options.repeats, warmup=1)
    title = f"VQ-Diffusion-B: forward of {batch} of {pair.x_t.shape[1]} tokens, {precision}"
    write(f"denoiser-forward-{batch}-{precision}", title, times, options)


@torch.inference_mode()
def sampling(options: argparse.Namespace, guidance: float, precision: str) -> None:
    pair = Pair(options, 1, precision)
    scheduler = VQDiffusionScheduler(num_vec_classes=pair.codes + 1, num_train_timesteps=100)
    scheduler.set_timesteps(100)
    doubled = pair.with_null() if guidance != 1 else (pair.x_t, pair.states)
    guided = Guided(pair.prepared, guidance)
    t = torch.tensor([STEP])

    def peer_step() -> Tensor:
        log_p = pair.peer_forward(*doubled)
        if guidance != 1:
            conditional, unconditional = log_p.chunk(2)
            log_p = unconditional + guidance * (conditional - unconditional)
            log_p -= log_p.logsumexp(1, keepdim=True)
        log_p = VQDiffusionPipeline.truncate(None, log_p, TRUNCATION).clamp(-70)
        return scheduler.step(log_p, timestep=torch.tensor(STEP - 1), sample=pair.x_t).prev_sample

    def our_step(denoiser: TokenTransformer | Prepared, route: Exact) -> Tensor:
        start = State(STEP, pair.x_t)
        how = {"process": pair.process, "guidance": guidance, "truncation": TRUNCATION, "start": start, "route": route}
        return next(trajectory(denoiser, tuple(pair.x_t.shape), pair.states, **how)).x

    times = interleave(
        {
            "diffusers, step": peer_step,
            "ours, step": lambda: our_step(pair.ours, Exact()),
            "ours, prepared, step": lambda: our_step(pair.prepared, Exact()),
            "ours, prepared, network": lambda: guided(pair.x_t, t, pair.states).value,
        },
        repeats=options.repeats,
        warmup=1,
    )
    title = f"VQ-Diffusion-B: a step of sampling, guidance {guidance:g}, truncation {TRUNCATION}, {precision}"
    write(f"denoiser-sampling-{'guided' if guidance != 1 else 'plain'}-{precision}", title, times, options)


def write(name: str, title: str, times: dict[str, list[float]], options: argparse.Namespace) -> None:
    baseline = next(iter(times))
    notes = "same weights; results compared first where they are no draws"
    if options.tiny:
        for row, seconds in times.items():
            print(f"{name}: {row} {min(seconds) * 1e3:.1f} ms")
    else:
        report(name, title, times, baseline=baseline, notes=notes)


class Training:
    """Two steps of AdamW on the cross-entropy of the clean tokens."""

    def __init__(self, options: argparse.Namespace, which: str) -> None:
        pair = Pair(options, 2)
        self.which, self.pair = which, pair
        self.model: nn.Module = pair.peer if which == "diffusers" else pair.ours
        pair.ours.checkpointing = "checkpointing" in which
        if which == "diffusers":
            del pair.ours
        else:
            del pair.peer
        del pair.prepared
        self.optimiser = torch.optim.AdamW(self.model.parameters(), 1e-4)
        self.clean = torch.randint(pair.codes, pair.x_t.shape)

    def step(self) -> None:
        if self.which == "diffusers":
            loss = F.nll_loss(self.pair.peer_forward(self.pair.x_t, self.pair.states), self.clean)
        else:
            log_p = self.pair.our_forward(self.pair.ours, self.pair.x_t, self.pair.states)
            loss = F.nll_loss(log_p.flatten(0, 1), self.clean.flatten())
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()


def peak(options: argparse.Namespace) -> float:
    training = Training(options, options.peak)
    peak_megabytes(afresh=True)
    for _ in range(2):
        training.step()
    return peak_megabytes()


def training_peaks(options: argparse.Namespace) -> None:
    """Peaks of fresh processes, one after the other, printed and written."""
    script = [sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
    rows: list[dict[str, object]] = []
    first = 0.0
    for which in ("diffusers", "ours", "ours, checkpointing"):
        done = subprocess.run([*script, "--peak", which], capture_output=True, text=True, check=True)
        megabytes = float(done.stdout.splitlines()[-1])
        first = first or megabytes
        rows.append({"name": which, "peak_mb": megabytes, "ratio": megabytes / first})
        print(f"peak of a training step, {which}: {megabytes:,.0f} MB, {megabytes / first:.3f}", flush=True)
    notes = "float32, batch 2, 1024 tokens, forward, backward and AdamW, same weights, cross-entropy"
    entry = {"title": "VQ-Diffusion-B: peak memory of a training step", "notes": notes, "command": command()}
    if not options.tiny:
        text = json.dumps({**entry, "machine": machine(), "baseline": "diffusers", "rows": rows}, indent=2)
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "denoiser-training-memory.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=list(PRECISIONS))
    parser.add_argument("--guidance", type=float, nargs="*", default=[1.0, 3.0])
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--tiny", action="store_true", help="a small network, to try the script; nothing is written")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak(options))
        return
    for precision in options.precisions:
        for batch in options.batches:
            forward(options, batch, precision)
        for guidance in options.guidance:
            sampling(options, guidance, precision)
    if options.memory:
        training_peaks(options)


if __name__ == "__main__":
    main()
