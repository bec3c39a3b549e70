"""What is captured against the same computation written out, and the model against itself before."""

import copy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.utils.checkpoint import checkpoint

from context_prediction import capture


class Denoiser(nn.Module):
    """Three layers; the middle one may be checkpointed."""

    def __init__(self, reentrant=None):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 3)
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
        self.reentrant = reentrant

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        if self.reentrant is None:
            hidden = self.blocks(hidden)
        else:
            hidden = checkpoint(self.blocks, hidden, use_reentrant=self.reentrant)
        return self.last(hidden)


@dataclass
class Sample:
    sample: torch.Tensor


class Returning(nn.Module):
    """A model whose one submodule returns what it is told to."""

    def __init__(self, returned):
        super().__init__()
        self.block = Block(returned)

    def forward(self, x):
        self.block(hidden_states=x)
        return x


class Block(nn.Module):
    def __init__(self, returned):
        super().__init__()
        self.returned = returned

    def forward(self, *, hidden_states):
        return self.returned(hidden_states)


class Twice(nn.Module):
    """A model that calls one layer twice, under two names."""

    def __init__(self):
        super().__init__()
        self.one = nn.Linear(3, 3)
        self.other = self.one

    def forward(self, x):
        return self.other(self.one(x))


class Wrapper(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        return self.module(x)


def hooks(model):
    return [
        (name, kind, tuple(found.items()))
        for name, module in model.named_modules()
        for kind, found in vars(module).items()
        if "hooks" in kind
    ]


def gradients(model, loss):
    return dict(zip(dict(model.named_parameters()), torch.autograd.grad(loss, tuple(model.parameters())), strict=True))


def both_losses(prediction, features):
    return prediction.square().mean() + features.cos().mean()


def test_input_and_output_are_those_of_the_submodule():
    """Checks: ConPreDiff Figure 1"""
    model, x = Denoiser(), torch.randn(2, 3)
    with capture(model, "blocks") as captured:
        prediction = model(x)
    entered = torch.tanh(model.first(x))
    left = model.blocks(entered)
    assert torch.equal(captured.input, entered) and torch.equal(captured.output, left)
    found = gradients(model, both_losses(prediction, captured.output) + captured.input.sum())
    wanted = gradients(model, both_losses(model.last(left), left) + entered.sum())
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient)


def test_one_capture_serves_a_whole_run():
    """Checks: ConPreDiff Figure 1"""
    model = Denoiser()
    captured = capture(model, "last")
    for _ in range(3):
        x = torch.randn(2, 3)
        model(x)
        assert torch.equal(captured.input, model.blocks(torch.tanh(model.first(x))))
    captured.close()
    latest = captured.input
    model(torch.randn(2, 3))
    assert captured.input is latest


def test_the_model_is_left_as_it_was():
    """Hooks, keys and outputs; also when the body fails, and when two captures overlap.

    Checks: ConPreDiff removal at inference
    """
    model, x = Denoiser(), torch.randn(2, 3)
    mine = model.blocks.register_forward_hook(lambda *_: None)
    before, keys, output = hooks(model), list(model.state_dict()), model(x)
    with capture(model, "blocks"), capture(model, "blocks"):
        assert hooks(model) != before
        assert list(model.state_dict()) == keys and torch.equal(model(x), output)
    assert hooks(model) == before
    with pytest.raises(ZeroDivisionError), capture(model, "blocks"):
        raise ZeroDivisionError
    assert hooks(model) == before and torch.equal(model(x), output)
    mine.remove()


def test_autocast_hands_out_its_own_precision():
    model, x = Denoiser(), torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16), capture(model, "blocks.0") as captured:
        model(x)
        assert torch.equal(captured.output, model.blocks[0](torch.tanh(model.first(x))))
    assert captured.output.dtype == torch.bfloat16


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("name", ["blocks", "blocks.0"])
def test_checkpointing_changes_no_gradient_and_recomputation_nothing(name, device):
    """The checkpointed layer is called a second time in backward, and what was captured stays."""
    plain, calls = Denoiser().to(device), []
    model = copy.deepcopy(plain)
    model.reentrant = False
    model.blocks[0].register_forward_hook(lambda *_: calls.append(1))
    x = torch.randn(2, 3, device=device)
    for each in (plain, model):
        with capture(each, name) as captured:
            loss = both_losses(each(x), captured.output) + captured.input.sum()
            kept = captured.output
            loss.backward()
            assert captured.output is kept
    assert len(calls) == 2
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_a_reentrant_checkpoint_is_refused():
    model = Denoiser(reentrant=True)
    with capture(model, "blocks") as captured, capture(model, "first") as outside:
        prediction = model(torch.randn(2, 3))
        with pytest.raises(RuntimeError, match="use_reentrant=False"):
            _ = captured.output
        prediction.sum().backward()
        with pytest.raises(RuntimeError, match="use_reentrant=False"):
            _ = captured.output
    assert outside.output.requires_grad


def test_without_gradients_it_is_read_without_gradients():
    model, x = Denoiser(), torch.randn(2, 3)
    with capture(model, "first") as captured:
        with torch.no_grad():
            model(x)
            assert torch.equal(captured.output, model.first(x))
        with pytest.raises(RuntimeError, match=r"'first' was computed without gradients.*torch.no_grad\(\)"):
            _ = captured.output


def test_accumulated_gradients_are_those_of_the_whole_batch():
    model, x = Denoiser(), torch.randn(6, 3)
    with capture(model, "blocks") as captured:
        wanted = gradients(model, both_losses(model(x), captured.output))
        for part in x.chunk(3):
            (both_losses(model(part), captured.output) / 3).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name])


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize(
    "backend",
    [
        "eager",
        pytest.param(
            "inductor",
            marks=[pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: g++")],
        ),
    ],
)
@pytest.mark.filterwarnings("default")
@pytest.mark.usefixtures("unchecked_shapes")
def test_a_compiled_model_hands_out_the_same(backend, fullgraph):
    """Captured before the first call; later, the error says what to do."""
    torch.compiler.reset()
    model = Denoiser()
    compiled = torch.compile(model, backend=backend, fullgraph=fullgraph)
    with capture(compiled, "blocks") as captured:
        for _ in range(2):
            x = torch.randn(2, 3)
            found = gradients(model, both_losses(compiled(x), captured.output))
            left = model.blocks(torch.tanh(model.first(x)))
            torch.testing.assert_close(captured.output, left)
            wanted = gradients(model, both_losses(model.last(left), left))
            for name, gradient in wanted.items():
                torch.testing.assert_close(found[name], gradient)
    torch.testing.assert_close(compiled(x), model(x))
    with capture(compiled, "first") as late:
        compiled(x)
        with pytest.raises(RuntimeError, match=r"torch.compiler.reset\(\)"):
            _ = late.output
        torch.compiler.reset()
        compiled(x)
        torch.testing.assert_close(late.output, model.first(x))


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrapper",
    [
        "DistributedDataParallel",
        "FullyShardedDataParallel",
        pytest.param(
            "fully_shard",
            marks=pytest.mark.skipif(
                not hasattr(torch.cpu.Stream, "record_event"), reason="this torch shards with fully_shard on GPUs only"
            ),
        ),
    ],
)
def test_two_ranks_find_the_gradients_of_one(wrapper, tmp_path):
    script = Path(__file__).with_name("capture_ranks.py")
    done = subprocess.run([sys.executable, script, wrapper, tmp_path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_names_are_those_of_the_bare_model():
    model, x = Denoiser(), torch.randn(2, 3)
    inner = model.blocks[0]
    model.blocks = checkpoint_wrapper(model.blocks)
    for wrapped in (Wrapper(model), torch.compile(Wrapper(model), backend="eager")):
        for name in ("blocks.0", "module.blocks.0", "blocks._checkpoint_wrapped_module.0"):
            with capture(wrapped, name) as captured:
                wrapped.forward(x) if isinstance(wrapped, Wrapper) else wrapped._orig_mod(x)
            assert torch.equal(captured.output, inner(torch.tanh(model.first(x))))


def test_a_part_named_like_a_wrapper_is_found():
    model, x = Wrapper(nn.ModuleDict({"a": nn.Linear(3, 2)})), torch.randn(2, 3)
    with capture(model, "module.a") as captured:
        output = model.module["a"](x)
    assert captured.output is output


def test_of_two_calls_the_last_counts():
    model, x = Twice(), torch.randn(2, 3)
    for name in ("one", "other"):
        with capture(model, name) as captured:
            output = model(x)
        assert captured.output is output and torch.equal(captured.input, model.one(x))


def test_a_copy_of_the_model_captures_nothing():
    """An average of the weights is a deep copy, made while the capture is open."""
    model, x = Denoiser(), torch.randn(2, 3)
    with capture(model, "blocks") as captured:
        model(x)
        kept = captured.output
        copy.deepcopy(model)(x)
        assert captured.output is kept


@pytest.mark.parametrize(
    ("returned", "select"),
    [
        (lambda x: (2 * x, x), lambda output: output[0]),
        (lambda x: {"x": 2 * x}, lambda output: output["x"]),
        (lambda x: Sample(2 * x), lambda output: output.sample),
    ],
)
def test_a_tensor_is_selected_from_any_output(returned, select):
    model, x = Returning(returned), torch.randn(2, 3)
    with capture(model, "block", select=select) as captured, capture(model, "block") as bare:
        model(x)
    assert torch.equal(captured.output, 2 * x)
    assert captured.input is x
    with pytest.raises(TypeError, match=rf"'block' is a {type(returned(x)).__name__}, no tensor.*select"):
        _ = bare.output


def test_a_submodule_without_arguments_has_no_input():
    block = Block(lambda x: x)
    model = nn.ModuleDict({"constant": nn.ParameterList([nn.Parameter(torch.ones(2))]), "block": block})
    block.forward = lambda: torch.ones(2)
    with capture(model, "block") as captured:
        block()
    assert torch.equal(captured.output, torch.ones(2))
    with pytest.raises(TypeError, match="first argument of submodule 'block' is a NoneType"):
        _ = captured.input


def test_reading_before_the_first_call_is_an_error():
    with capture(Denoiser(), "blocks", select=lambda output: output[0]) as captured:
        for read in (lambda: captured.input, lambda: captured.output):
            with pytest.raises(RuntimeError, match="'blocks' has not been called since capture"):
                read()


def test_an_unknown_name_suggests_the_nearest():
    model = Wrapper(Denoiser())
    with pytest.raises(ValueError, match=r"no submodule 'block\.0'; there is 'blocks\.0'"):
        capture(model, "block.0")
    with pytest.raises(ValueError, match="there is 'first', 'last', 'blocks'$"):
        capture(model, "zzz")
    with pytest.raises(ValueError, match="there is none at all"):
        capture(nn.Linear(2, 2), "zzz")
