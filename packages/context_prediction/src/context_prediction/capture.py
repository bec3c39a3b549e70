"""Capture: what goes in and out of one submodule, without a change to the model."""

from collections.abc import Callable
from difflib import get_close_matches
from types import TracebackType

import torch
from torch import Tensor, nn

WRAPPERS = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
"""The names under which DDP, `torch.compile`, FSDP and checkpoint wrappers hold the module that they wrap."""


def capture(model: nn.Module, name: str, *, select: Callable[..., Tensor] | None = None) -> "Captured":
    """Keep the latest input and output of the submodule `name`, such as `"up_blocks.3"`, until closed.

    Open it once for a whole run, or for one call in a `with` statement:

        with capture(model, "up_blocks.3") as captured:
            prediction = model(x_t, t)
        features = captured.output

    The name is that of the bare model, whatever wraps the model or its parts (DDP, FSDP, `torch.compile`); where a part
    and its wrapper share a name, the wrapper is meant. The model stays as it is: one forward hook, gone when closed.
    A compiled model is traced once: open before its first call, and once for all calls. Losses on what is captured
    belong in the same backward pass as the loss on the model's output, as DDP and FSDP count on it.

    Args:
        select: takes the tensor wanted from an output that is none, such as `lambda output: output.sample`.

    Raises:
        ValueError: no submodule of this name; the nearest names are suggested.

    Source: ConPreDiff Figure 1
    Unstated: which layer feeds the head; any, by name, and in the tables the input of the last one [name].
    """
    return Captured(_submodule(model, name), name, select)


class Captured:
    """The input and output of one submodule in its latest call.

    Of several calls in one forward pass the last one counts. Calls during backward, which recompute what gradient
    checkpointing threw away, do not: the tensors are those of the forward pass, with its graph. They are held until the
    next call.
    """

    def __init__(self, module: nn.Module, name: str, select: Callable[..., Tensor] | None) -> None:
        self._name, self._select = name, select
        self._input: object = None
        self._output: object = None
        self._called = self._differentiable = False

        def keep(called: nn.Module, arguments: tuple[object, ...], named: dict[str, object], output: object) -> None:
            if called is not module or _in_backward():  # a copy of the model carries its hooks along
                return
            self._input, self._output = (*arguments, *named.values(), None)[0], output
            self._called, self._differentiable = True, torch.is_grad_enabled()

        self._hook = module.register_forward_hook(keep, with_kwargs=True)

    @property
    def input(self) -> Tensor:
        """The first argument, by position or keyword.

        Raises:
            RuntimeError: the submodule has not been called, or was called without gradients while they are wanted now.
            TypeError: the argument is no tensor.
        """
        return self._tensor(self._input, "first argument", "capture the submodule that makes the tensor")

    @property
    def output(self) -> Tensor:
        """The output, through `select` where given.

        Raises:
            RuntimeError: the submodule has not been called, or was called without gradients while they are wanted now.
            TypeError: the output, or what `select` takes from it, is no tensor.
        """
        output = self._output if self._select is None or not self._called else self._select(self._output)
        return self._tensor(output, "output", "choose one, as in capture(..., select=lambda output: output[0])")

    def close(self) -> None:
        """Remove the hook; what was captured can still be read."""
        self._hook.remove()

    def __enter__(self) -> "Captured":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _tensor(self, found: object, what: str, remedy: str) -> Tensor:
        if not self._called:
            raise RuntimeError(
                f"submodule {self._name!r} has not been called since capture: call the model first, and name what it"
                " calls, not a list of modules; if it is compiled, capture once, before its first call, or call"
                " torch.compiler.reset() in between"
            )
        if not isinstance(found, Tensor):
            raise TypeError(f"the {what} of submodule {self._name!r} is a {type(found).__name__}, no tensor: {remedy}")
        if torch.is_grad_enabled() and not self._differentiable:
            raise RuntimeError(
                f"the {what} of submodule {self._name!r} was computed without gradients, by a reentrant checkpoint or"
                " under torch.no_grad(): use checkpoint(..., use_reentrant=False), or read it under torch.no_grad()"
            )
        return found


def _in_backward() -> bool:
    """Whether autograd is running backward in this thread; a compiler traces forward passes only."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _submodule(model: nn.Module, name: str) -> nn.Module:
    exact: dict[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
    if name in exact:
        return exact[name]
    bare: dict[str, nn.Module] = {}
    for path, module in exact.items():
        bare.setdefault(_without_wrappers(path), module)
    if (wanted := _without_wrappers(name)) in bare:
        return bare[wanted]
    near = get_close_matches(wanted, bare, cutoff=0.5) or [path for path in bare if path and "." not in path]
    raise ValueError(f"the model has no submodule {name!r}; there is {', '.join(map(repr, near)) or 'none at all'}")


def _without_wrappers(path: str) -> str:
    return ".".join(part for part in path.split(".") if part not in WRAPPERS)
