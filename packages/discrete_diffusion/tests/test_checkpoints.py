import pytest
import torch

from discrete_diffusion import from_vq_diffusion

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
