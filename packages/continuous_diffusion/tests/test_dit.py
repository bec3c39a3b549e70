"""DiT, against diffusers with the same weights, and against what its initial values promise."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from continuous_diffusion import Condition, DiT, ForwardProcess, Guided, Objective, Schedule, from_dit

OFFICIAL = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 3,
    "hidden_size": 32,
    "depth": 2,
    "num_heads": 4,
    "num_classes": 5,
}


def small(**changes: Any) -> DiT:
    arguments: dict[str, Any] = {
        "in_channels": 3,
        "out_channels": 3,
        "grid": (8, 8),
        "patch": 2,
        "width": 32,
        "depth": 2,
        "heads": 4,
        "classes": 5,
    }
    return DiT(**(arguments | changes))


def awake(dit: DiT) -> DiT:
    for parameter in dit.parameters():
        if parameter.ndim < 2 or not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return dit


def official_weights(dit: DiT) -> dict[str, torch.Tensor]:
    """Our weights under the names of the published files."""
    names = {
        "stem.": "x_embedder.proj.",
        "time.hidden.": "t_embedder.mlp.0.",
        "time.out.": "t_embedder.mlp.2.",
        "labels.": "y_embedder.embedding_table.",
        "head.": "final_layer.linear.",
    }
    inside = {"attention.qkv": "attn.qkv", "attention.out": "attn.proj", "expand": "mlp.fc1", "contract": "mlp.fc2"}
    weights = {}
    for name, value in dit.state_dict().items():
        for ours, theirs in names.items():
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        for ours, theirs in inside.items():
            name = name.replace(f".{ours}.", f".{theirs}.")
        name = name.replace("modulation.", "adaLN_modulation.1.")
        weights[f"final_layer.{name}" if name.startswith("adaLN") else name] = value
    return weights | {"pos_embed": dit.positions[None]}


def in_diffusers(dit: DiT) -> Any:
    """The same network in diffusers; its sinusoids are set to the official frequencies."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = diffusers.DiTTransformer2DModel(
            num_attention_heads=4,
            attention_head_dim=8,
            in_channels=3,
            out_channels=6,
            num_layers=2,
            sample_size=8,
            patch_size=2,
            num_embeds_ada_norm=5,
        )
    ours = official_weights(dit)
    weights = {
        "pos_embed.proj": "x_embedder.proj",
        "proj_out_1": "final_layer.adaLN_modulation.1",
        "proj_out_2": "final_layer.linear",
    }
    theirs = {f"{a}.{leaf}": ours[f"{b}.{leaf}"] for a, b in weights.items() for leaf in ("weight", "bias")}
    for i in range(2):
        block, place = f"blocks.{i}", f"transformer_blocks.{i}"
        for leaf in ("weight", "bias"):
            for name, part in zip("qkv", ours[f"{block}.attn.qkv.{leaf}"].chunk(3), strict=True):
                theirs[f"{place}.attn1.to_{name}.{leaf}"] = part
            theirs[f"{place}.attn1.to_out.0.{leaf}"] = ours[f"{block}.attn.proj.{leaf}"]
            theirs[f"{place}.ff.net.0.proj.{leaf}"] = ours[f"{block}.mlp.fc1.{leaf}"]
            theirs[f"{place}.ff.net.2.{leaf}"] = ours[f"{block}.mlp.fc2.{leaf}"]
            theirs[f"{place}.norm1.linear.{leaf}"] = ours[f"{block}.adaLN_modulation.1.{leaf}"]
            for k in (0, 2):
                theirs[f"{place}.norm1.emb.timestep_embedder.linear_{k // 2 + 1}.{leaf}"] = ours[
                    f"t_embedder.mlp.{k}.{leaf}"
                ]
        theirs[f"{place}.norm1.emb.class_embedder.embedding_table.weight"] = ours["y_embedder.embedding_table.weight"]
        peer.transformer_blocks[i].norm1.emb.time_proj.downscale_freq_shift = 0
    missing, unexpected = peer.load_state_dict(theirs, strict=False)
    assert not unexpected
    assert set(missing) <= {"pos_embed.pos_embed"}
    return peer.eval()


@pytest.mark.parity
def test_diffusers_computes_the_same() -> None:
    """Checks: DiT block with adaLN-Zero"""
    dit = awake(small(learned_variance=True))
    x, t, labels = torch.randn(3, 3, 8, 8), torch.tensor([1, 7, 500]), torch.tensor([0, 5, 3])
    with torch.no_grad():
        theirs = in_diffusers(dit)(x, timestep=t - 1, class_labels=labels).sample
        ours = dit(x, t, Condition(classes=labels))
    torch.testing.assert_close(torch.cat([ours.value, ours.variance], 1), theirs, atol=2e-5, rtol=1e-4)


def test_official_names_are_read() -> None:
    """Checks: DiT block with adaLN-Zero"""
    dit = awake(small(learned_variance=True))
    again = from_dit(official_weights(dit), OFFICIAL)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in dit.state_dict().items())


def test_other_files_are_refused() -> None:
    weights = official_weights(small(learned_variance=True))
    with pytest.raises(KeyError, match=r"lacks 10 parameters .* blocks\.2\."):
        from_dit(weights, OFFICIAL | {"depth": 3})
    with pytest.raises(KeyError, match="1 parameters with no place: y_embedder"):
        from_dit(weights | {"y_embedder.more": torch.zeros(1)}, OFFICIAL)
    with pytest.raises(
        ValueError, match=r"y_embedder.embedding_table.weight: shape \(6, 32\), config asks for \(8, 32\)"
    ):
        from_dit(weights, OFFICIAL | {"num_classes": 7})
    with pytest.raises(ValueError, match="pos_embed"):
        from_dit(weights, OFFICIAL | {"input_size": 16})
    with pytest.raises(ValueError, match=r"\['surprise'\] are not known"):
        from_dit(weights, OFFICIAL | {"surprise": 1})


def test_a_new_one_says_zero_and_its_blocks_are_the_identity() -> None:
    """Checks: DiT block with adaLN-Zero"""
    dit = small()
    x, t, labels = torch.randn(2, 3, 8, 8), torch.tensor([1, 9]), torch.tensor([0, 5])
    assert dit(x, t, Condition(classes=labels)).value.abs().max() == 0
    tokens = torch.randn(2, 16, 32)
    assert torch.equal(dit.blocks[0](tokens, torch.randn(2, 32)), tokens)


def test_features_are_the_last_blocks_on_the_grid_of_patches() -> None:
    dit = awake(small())
    seen: list[torch.Tensor] = []
    dit.blocks[-1].register_forward_hook(lambda module, given, found: seen.append(found))
    features = dit(torch.randn(2, 3, 8, 8), torch.tensor([1, 9]), Condition(classes=torch.tensor([0, 1]))).features
    assert features.shape == (2, 32, 4, 4)
    assert torch.equal(features[1, :, 2, 3], seen[0][1, 2 * 4 + 3])


def test_the_objective_and_guidance_do_not_care() -> None:
    dit = awake(small())
    objective = Objective(dit, ForwardProcess(Schedule.cosine(10)), condition_dropout=0.5)
    given = Condition(classes=torch.tensor([0, 1]))
    denoising = objective(torch.randn(2, 3, 8, 8), given)
    denoising.loss.mean().backward()
    assert all(parameter.grad is not None for parameter in dit.parameters())
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([2, 4])
    absent, present = (dit(x, t, Condition(classes=labels)).value for labels in (torch.tensor([5, 5]), given.classes))
    torch.testing.assert_close(Guided(dit, 2.0)(x, t, given).value, 2 * present - absent, atol=1e-5, rtol=1e-4)


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    dit = awake(small(classes=None))
    dit.save_pretrained(tmp_path)
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([1, 9])
    assert torch.equal(DiT.from_pretrained(tmp_path)(x, t).value, dit(x, t).value)


X, T, LABELS = torch.zeros(2, 3, 8, 8), torch.tensor([1, 2]), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X, T), "condition.classes is missing"),
        ((X, T, Condition(classes=LABELS, context=torch.zeros(2, 1, 4))), "condition was given"),
        ((X, T, Condition(classes=LABELS, level=LABELS)), "condition.level was given"),
        ((X[:, :2], T, Condition(classes=LABELS)), "2 channels, this DiT reads in_channels=3"),
        ((X[..., :4], T, Condition(classes=LABELS)), r"size \(8, 4\), this DiT was built for grid=\(8, 8\)"),
        ((X, T, Condition(classes=LABELS + 5)), "condition.classes: 5 to 6, expected 0..5"),
    ],
)
def test_wrong_inputs_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small()(*arguments)


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(ValueError, match="width: 32 is not a multiple of heads=3"):
        small(heads=3)
    with pytest.raises(ValueError, match=r"grid: \(8, 8\) is not a multiple of patch=3"):
        small(patch=3)
