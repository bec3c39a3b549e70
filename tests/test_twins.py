"""Who knows one of the two diffusion packages knows the other: the same modules, names, fields and arguments."""

import importlib
import inspect
from dataclasses import fields
from types import ModuleType

import pytest

import continuous_diffusion
import discrete_diffusion

TWINS = (discrete_diffusion, continuous_diffusion)
MODULES = ("schedule", "forward_process", "denoiser", "objective", "sampler", "guidance", "one_by_one", "checkpoints")
NOUNS = {
    "schedule": ["Schedule"],
    "forward_process": ["ForwardProcess"],
    "denoiser": ["Denoiser", "Prediction"],
    "objective": ["Denoising", "Objective"],
    "sampler": ["State", "sample", "trajectory"],
    "guidance": ["Guided"],
    "one_by_one": ["OneByOne"],
}
# What a caller may rely on in either twin, in this order; each twin has further keyword-only options of its own.
SHARED_ARGUMENTS = {
    "Objective": ["denoiser", "process", "*condition_dropout"],
    "Objective.forward": ["self", "clean", "condition", "*t", "*generator"],
    "ForwardProcess": ["schedule"],
    "ForwardProcess.sample": ["self", "x_0", "t", "*generator"],
    "Guided": ["denoiser", "scale", "*null"],
    "Guided.forward": ["self", "x_t", "t", "condition"],
    "Guided.null_condition": ["self", "b", "l"],
    "OneByOne": ["denoiser"],
    "OneByOne.forward": ["self", "x_t", "t", "condition"],
    "OneByOne.null_condition": ["self", "b", "l"],
    "sample": ["denoiser", "shape", "condition", "*process", "*steps", "*guidance", "*start", "*generator"],
    "trajectory": ["denoiser", "shape", "condition", "*process", "*steps", "*guidance", "*start", "*generator"],
}


def arguments(twin: ModuleType, name: str) -> dict[str, inspect.Parameter]:
    owner, _, method = name.partition(".")
    callable_ = getattr(getattr(twin, owner), method) if method else getattr(twin, owner)
    return {
        ("*" if argument.kind is argument.KEYWORD_ONLY else "") + argument.name: argument
        for argument in inspect.signature(callable_).parameters.values()
    }


@pytest.mark.parametrize("module", MODULES)
def test_the_same_nouns_live_in_the_same_modules(module: str) -> None:
    for twin in TWINS:
        found = importlib.import_module(f"{twin.__name__}.{module}")
        for noun in NOUNS.get(module, []):
            assert getattr(twin, noun) is getattr(found, noun)
            assert getattr(twin, noun).__module__ == found.__name__


@pytest.mark.parametrize("result", ["Prediction", "Denoising", "State"])
def test_results_have_the_same_fields(result: str) -> None:
    ours, theirs = ([field.name for field in fields(getattr(twin, result))] for twin in TWINS)
    assert ours == theirs


@pytest.mark.parametrize("name", SHARED_ARGUMENTS)
def test_calls_have_the_same_arguments_with_the_same_defaults(name: str) -> None:
    ours, theirs = (arguments(twin, name) for twin in TWINS)
    shared = SHARED_ARGUMENTS[name]
    for found in (ours, theirs):
        assert [argument for argument in found if argument in shared] == shared
        assert all(
            argument.startswith("*") or found[argument].default is not inspect.Parameter.empty
            for argument in found
            if argument not in shared
        ), "what only one twin has is optional"
    assert {a: ours[a].default for a in shared} == {a: theirs[a].default for a in shared}


@pytest.mark.parametrize("name", ["Objective.forward", "ForwardProcess.sample", "sample", "trajectory"])
def test_the_generator_stands_last(name: str) -> None:
    assert all(list(arguments(twin, name))[-1] == "*generator" for twin in TWINS)
