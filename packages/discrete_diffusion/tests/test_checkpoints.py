import pytest
import torch
from torch import Tensor

from discrete_diffusion import TokenTransformer, from_vq_diffusion, split_vq_diffusion

CASES = {"text": "weights", "cls": "weights_class", "unc": "weights_uncond"}


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_official_checkpoints_give_the_official_logits(golden, name: str) -> None:
    """Oracle: recorded logits of the three official transformers.

    Checks: VQ-Diffusion denoising transformer, adaptive layer norm
    """
    case = golden("vqdiffusion_transformer")
    model = from_vq_diffusion(case.weights(CASES[name]), case.config["constructor"][name])
    io = {key.removeprefix(f"{name}."): value for key, value in case.io.items() if key.startswith(f"{name}.")}
    with torch.no_grad():
        logits = model(io["tokens"], io["t"] + 1, io.get("cond")).value.transpose(1, 2)
        torch.testing.assert_close(logits, io["logits"], atol=2e-5, rtol=1e-4)
        log_p = logits.log_softmax(1)
        torch.testing.assert_close(log_p, io["log_p_x0"][:, :-1], atol=2e-5, rtol=1e-4)
        if name == "cls":
            null = model(io["tokens"], io["t"] + 1, model.null_condition(3, 1)).value.transpose(1, 2)
            torch.testing.assert_close(null, io["logits_uncond"], atol=2e-5, rtol=1e-4)


@pytest.mark.parity
def test_the_moving_average_and_the_yaml_are_read_as_well(golden) -> None:
    """The `ema` entry has one prefix less, and the YAML one level more; other models in the file are passed over."""
    case = golden("vqdiffusion_transformer")
    weights, constructor = case.weights("weights"), case.config["constructor"]["text"]
    ema = {key.removeprefix("transformer."): value for key, value in weights.items()}
    ema["content_codec.enc.encoder.weight"] = torch.zeros(3)
    ours, same = (
        from_vq_diffusion(weights, constructor),
        from_vq_diffusion(ema, {"diffusion_config": {"params": constructor}}),
    )
    for (name, left), right in zip(ours.state_dict().items(), same.state_dict().values(), strict=True):
        assert name == "null" or torch.equal(left, right), name


@pytest.mark.parity
def test_what_has_no_place_is_named(golden) -> None:
    case = golden("vqdiffusion_transformer")
    weights, constructor = case.weights("weights"), case.config["constructor"]["text"]
    with pytest.raises(ValueError, match=r"no place for \['blocks.9.feedforward.expand.weight', 'surprise'\]"):
        from_vq_diffusion(
            {**weights, "transformer.transformer.surprise": torch.zeros(1), "blocks.9.mlp.0.weight": torch.zeros(1)},
            constructor,
        )
    short = {key: value for key, value in weights.items() if "to_logits.1.bias" not in key}
    with pytest.raises(ValueError, match=r"nothing for \['logits.bias'\]"):
        from_vq_diffusion(short, constructor)
    with pytest.raises(ValueError, match=r"norm.weight is \(2,\), not \(32,\)"):
        from_vq_diffusion({**weights, "transformer.transformer.to_logits.0.weight": torch.zeros(2)}, constructor)
    odd = {**constructor["transformer_config"]["params"], "block_activate": "ReLU"}
    with pytest.raises(ValueError, match="block_activate = 'ReLU' is not supported"):
        from_vq_diffusion(weights, {**constructor, "transformer_config": {"params": odd}})


TEXT = {
    "diffusion_step": 10,
    "transformer_config": {
        "params": {
            "attn_type": "selfcross",
            "timestep_type": "adalayernorm",
            "mlp_type": "fc",
            "block_activate": "GELU2",
            "content_seq_len": 6,
            "content_spatial_size": [2, 3],
            "n_embd": 8,
            "n_layer": 2,
            "n_head": 2,
            "mlp_hidden_times": 2,
            "condition_dim": 5,
        }
    },
    "content_emb_config": {"params": {"num_embed": 7, "spatial_size": [2, 3]}},
}
OFFICIAL = {
    "tokens.weight": "content_emb.emb.weight",
    "rows.weight": "content_emb.height_emb.weight",
    "columns.weight": "content_emb.width_emb.weight",
    "null": "empty_text_embed",
    ".self_norm.": ".ln1.",
    ".cross_norm.": ".ln1_1.",
    ".self_attention.": ".attn1.",
    ".cross_attention.": ".attn2.",
    ".feedforward.expand.": ".mlp.0.",
    ".feedforward.contract.": ".mlp.2.",
    ".norm.": ".ln2.",
    "embedding.table.": "emb.",
    "modulation.": "linear.",
    "project.": "proj.",
}


def small(null_length: int = 0) -> TokenTransformer:
    size = {"codes": 7, "grid": (2, 3), "steps": 10, "width": 8, "depth": 2, "heads": 2, "feedforward": 2}
    return TokenTransformer(**size, condition_width=5, null_length=null_length)


def released(model: TokenTransformer) -> dict[str, Tensor]:
    """Its tensors under their official names, projections of one input apart."""
    weights = {}
    for name, value in model.state_dict().items():
        for ours, official in OFFICIAL.items():
            name = name.replace(ours, official)
        name = name.replace("logits.", "to_logits.1.")
        name = f"to_logits.0.{name.removeprefix('norm.')}" if name.startswith("norm.") else name
        joined = next((part for part in ("query_key_value", "key_value") if part in name), "value")
        for part, each in zip(joined.split("_"), value.chunk(joined.count("_") + 1), strict=True):
            weights[name.replace(joined, part)] = each
    return weights


@pytest.mark.parametrize("null_length", [0, 4])
def test_what_went_out_under_official_names_comes_back(null_length: int) -> None:
    """Checks: VQ-Diffusion denoising transformer"""
    ours = small(null_length)
    weights = {f"transformer.transformer.{key}": value for key, value in released(ours).items()}
    weights |= {"transformer.log_at": torch.zeros(10), "content_codec.enc.weight": torch.zeros(1)}
    again = from_vq_diffusion(weights, {"diffusion_config": {"params": TEXT}})
    assert again.grid == (2, 3) and again.steps == 10
    for name, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_files_that_do_not_fit_are_named() -> None:
    weights, network = released(small()), TEXT["transformer_config"]["params"]

    def changed(**changes: object) -> dict[str, object]:
        return TEXT | {"transformer_config": {"params": network | changes}}

    for more, config, message in (
        ({"surprise": torch.zeros(1)}, TEXT, r"no place for \['surprise'\]"),
        ({"blocks.0.surprise.weight": torch.zeros(1)}, TEXT, r"no place for \['blocks.0.surprise.weight'\]"),
        ({"to_logits.0.weight": torch.zeros(2)}, TEXT, r"norm.weight is \(2,\), not \(8,\)"),
        ({"to_logits.1.weight": torch.zeros(9, 8)}, TEXT, "7 codes to choose from, but the checkpoint has 9"),
        ({}, changed(block_activate="ReLU"), "block_activate = 'ReLU' is not supported"),
        ({}, changed(content_spatial_size=[4, 4]), r"has not the content_seq_len of 6 tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            from_vq_diffusion(weights | more, config)


@pytest.mark.parametrize("averaged", [True, False])
def test_the_denoiser_is_told_from_what_else_is_in_a_file(averaged: bool) -> None:
    plain = {f"transformer.transformer.{key}": value for key, value in released(small()).items()}
    model = {f"module.{key}": value for key, value in plain.items()}
    model |= {"module.content_codec.dec.weight": torch.ones(2), "module.transformer.condition_emb.ln": torch.ones(3)}
    model |= {"module.transformer.Lt_history": torch.ones(10), "module.transformer.Lt_count": torch.ones(10)}
    ema = {key.removeprefix("transformer."): value + 1 for key, value in plain.items()}
    parts = split_vq_diffusion({"model": model, "ema": ema}, averaged=averaged)
    assert set(parts.codec) == {"dec.weight"} and set(parts.condition) == {"ln"}
    assert parts.times is not None and torch.equal(parts.times.history, torch.ones(10, dtype=torch.float64))
    read, expected = from_vq_diffusion(parts.denoiser, TEXT), from_vq_diffusion(plain, TEXT)
    torch.testing.assert_close(read.logits.weight, expected.logits.weight + averaged)
    assert split_vq_diffusion(plain).times is None
