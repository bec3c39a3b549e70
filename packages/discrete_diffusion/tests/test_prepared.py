"""Oracle of everything here: the transformer itself, called as it is."""

import pytest
import torch

from discrete_diffusion import (
    Denoiser,
    ForwardProcess,
    Guided,
    Prepared,
    Schedule,
    TokenTransformer,
    from_vq_diffusion,
    sample,
)
from discrete_diffusion.attention import CrossAttention
from discrete_diffusion.blocks import AdaptiveNorm

SMALL = {"codes": 11, "grid": (3, 4), "steps": 10, "width": 16, "depth": 2, "heads": 2}
KINDS = {
    "text": {"condition_width": 5},
    "class": {"classes": 3},
    "class in time": {"classes": 3, "class_in_time": True},
    "unconditional": {"sinusoidal_time": True, "convolution": True},
}


def transformer(kind: str, **changes: object) -> TokenTransformer:
    """One in which nothing starts at zero, so that differences show."""
    torch.manual_seed(0)
    model = TokenTransformer(**{**SMALL, **changes}, **KINDS[kind])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def conditions(kind: str, b: int) -> torch.Tensor | None:
    drawn = torch.Generator().manual_seed(1)
    if kind == "text":
        return torch.randn(b, 7, 5, generator=drawn)
    return None if kind == "unconditional" else torch.randint(4, (b,), generator=drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_it_predicts_what_the_transformer_does(kind: str) -> None:
    model = transformer(kind)
    prepared = Prepared(model)
    assert isinstance(prepared, Denoiser)
    condition = conditions(kind, 6)
    for t in (1, 4, 10):
        x_t, times = torch.randint(12, (6, 12)), torch.full((6,), t)
        expected, found = model(x_t, times, condition), prepared(x_t, times, condition)
        torch.testing.assert_close(found.value, expected.value, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.features, expected.features, atol=1e-5, rtol=1e-5)
        assert not found.value.requires_grad
    if kind != "unconditional":
        torch.testing.assert_close(prepared(x_t, times).value, model(x_t, times).value, atol=1e-5, rtol=1e-5)
        assert torch.equal(prepared.null_condition(2, 7), model.null_condition(2, 7))


def test_the_modulations_of_one_time_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the steps of sampling every norm and every projection of the condition is computed once."""
    model, calls = transformer("text"), {AdaptiveNorm: 0, CrossAttention: 0}
    for module, method in ((AdaptiveNorm, "modulations"), (CrossAttention, "keys_values")):
        original = getattr(module, method)

        def counted(self, *given, module=module, original=original):
            calls[module] += 1
            return original(self, *given)

        monkeypatch.setattr(module, method, counted)
    process = ForwardProcess(Schedule.paper(10, 11))
    for guidance in (1.0, 3.0):
        calls.update(dict.fromkeys(calls, 0))
        sample(Prepared(model), (2, 12), conditions("text", 2), process=process, guidance=guidance)
        assert calls == {AdaptiveNorm: 4, CrossAttention: 2}


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_samples_are_the_same(guidance: float) -> None:
    """Guided or not, the same seeds give the same tokens through the sampler."""
    model, process = transformer("text"), ForwardProcess(Schedule.paper(10, 11))
    drawn = [
        sample(
            denoiser,
            (3, 12),
            conditions("text", 3),
            process=process,
            guidance=guidance,
            generator=[torch.Generator().manual_seed(i) for i in range(3)],
        )
        for denoiser in (model, Prepared(model))
    ]
    assert torch.equal(*drawn)
    assert isinstance(Guided(Prepared(model), 2.0), Denoiser)


def test_another_condition_and_other_weights_are_noticed() -> None:
    """Whether a condition is a new tensor or the old one with new values; whatever changed the weights."""
    model = transformer("text")
    prepared, condition = Prepared(model), conditions("text", 2)
    x_t, times = torch.randint(12, (2, 12)), torch.tensor([3, 5])

    def agree() -> torch.Tensor:
        found = prepared(x_t, times, condition).value
        torch.testing.assert_close(found, model(x_t, times, condition).value, atol=1e-5, rtol=1e-5)
        return found

    first = agree()
    condition.mul_(2)
    second = agree()
    with torch.no_grad():
        model.blocks[0].self_norm.modulation.weight.mul_(2)
    third = agree()
    model.load_state_dict({name: 1.5 * value for name, value in model.state_dict().items()})
    fourth = agree()
    condition = condition[:, :3]
    fifth = agree()
    seen = (first, second, third, fourth, fifth)
    assert not any(torch.equal(a, b) for a, b in zip(seen, seen[1:], strict=False))
    model.to(torch.float64)
    condition = condition.double()
    assert agree().dtype == torch.float64


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"t: expected values in 1..10"):
        Prepared(transformer("text"))(torch.zeros(2, 12, dtype=torch.int64), torch.tensor([0, 1]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_alone_and_among_eight(kind: str) -> None:
    """Invariance: the tokens of every kind at batch 1 and 8; the logits to rounding, for sums are made otherwise."""
    model = transformer(kind, width=64, heads=4, codes=50)
    prepared, process, eight = Prepared(model), ForwardProcess(Schedule.paper(10, 50)), conditions(kind, 8)
    x_t, times = torch.randint(51, (8, 12)), torch.full((8,), 7)
    together = prepared(x_t, times, eight).value
    drawn = sample(prepared, (8, 12), eight, process=process, generator=seeds(range(8)))
    for i in range(8):
        one = None if eight is None else eight[i : i + 1]
        alone = prepared(x_t[i : i + 1], times[:1], one).value
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=1e-5)
        assert torch.equal(sample(prepared, (1, 12), one, process=process, generator=seeds([i])), drawn[i : i + 1])


def seeds(numbers) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in numbers]


@pytest.mark.parity
@pytest.mark.parametrize("name", ["text", "cls", "unc"])
def test_it_gives_the_official_logits(golden, name: str) -> None:
    """Oracle: recorded logits of the three official transformers, to 1e-5.

    Checks: VQ-Diffusion denoising transformer, adaptive layer norm
    """
    case = golden("vqdiffusion_transformer")
    weights = {"text": "weights", "cls": "weights_class", "unc": "weights_uncond"}[name]
    model = from_vq_diffusion(case.weights(weights), case.config["constructor"][name])
    io = {key.removeprefix(f"{name}."): value for key, value in case.io.items() if key.startswith(f"{name}.")}
    for denoiser in (model, Prepared(model)):
        logits = denoiser(io["tokens"], io["t"] + 1, io.get("cond")).value.transpose(1, 2)
        torch.testing.assert_close(logits, io["logits"], atol=1e-5, rtol=0)
