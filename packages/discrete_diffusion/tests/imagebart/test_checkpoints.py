from itertools import product

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from discrete_diffusion.imagebart import (
    DecoderOnly,
    EncoderDecoder,
    Filter,
    ImageBART,
    draw_scale,
    from_imagebart,
    load_imagebart,
    sample,
)
from discrete_diffusion.imagebart.checkpoints import _BLOCK_PARTS, _INSIDE, _NAMES, _rename

NETWORKS = {"x": "weights", "residual": "weights_residual"}


@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("averaged", [False, True])
def test_official_scales_give_the_official_logits(golden, name: str, averaged: bool) -> None:
    """Oracle: recorded logits, with the weights as such and with their moving average, without and with caches.

    Checks: ImageBART encoder-decoder scales, residual-scaled logits
    """
    case = golden("imagebart_scale")
    network = from_imagebart(case.weights(NETWORKS[name]), case.config["constructor"][name], averaged=averaged)
    src, target = case.io[f"{name}.src"], case.io[f"{name}.target"]
    expected = case.io[f"{name}.logits_ema" if averaged else f"{name}.logits"]
    with torch.no_grad():
        logits = network(src[:, 1:], src[:, 0], target=target).value
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
        step = network.decode(src[:, 1:], src[:, 0])
        cached = torch.stack([step(token) for token in [None, *target.T[:-1]]], 1)
        torch.testing.assert_close(cached, expected, atol=1e-5, rtol=0)


@pytest.mark.parity
@pytest.mark.parametrize("name", NETWORKS)
def test_official_scales_draw_the_official_tokens(golden, name: str) -> None:
    """Oracle: recorded greedy tokens.

    Checks: ImageBART sampling
    """
    case = golden("imagebart_scale")
    network = from_imagebart(case.weights(NETWORKS[name]), case.config["constructor"][name], averaged=False)
    src = case.io[f"{name}.src"]
    drawn = draw_scale(network, src[:, 1:], src[:, 0], filter=Filter(top_k=1))
    assert torch.equal(drawn, case.io[f"{name}.greedy"])


@pytest.mark.parity
@pytest.mark.parametrize("averaged", [False, True])
def test_the_official_last_scale_gives_the_official_logits_and_tokens(golden, averaged: bool) -> None:
    """Oracle: recorded logits and greedy tokens.

    Checks: ImageBART decoder-only scale
    """
    case = golden("imagebart_gpt")
    network = from_imagebart(case.weights("weights"), case.config["constructor"], averaged=averaged)
    z, t = case.io["z"], case.io["scale"].flatten()
    with torch.no_grad():
        logits = network(z, t, target=z).value
        torch.testing.assert_close(logits, case.io["logits_ema" if averaged else "logits"], atol=1e-5, rtol=0)
    if not averaged:
        assert torch.equal(draw_scale(network, z, t, filter=Filter(top_k=1)), case.io["greedy"])


@pytest.mark.parity
def test_a_chain_of_official_files_is_read_in_order(golden, tmp_path) -> None:
    """Oracle: each file read alone; saved and read again it samples the same.

    Checks: ImageBART encoder-decoder scales, decoder-only scale
    """
    scale, gpt = golden("imagebart_scale"), golden("imagebart_gpt")
    finer = scale.config["constructor"]["x"]
    files = [(scale.weights("weights"), {"model": {"params": {**finer, "single_scale": t}}}) for t in (1, 2, 3)]
    files.append((gpt.weights("weights"), gpt.config["constructor"]))
    model = ImageBART.from_imagebart(files)
    for network, file in zip(model.denoisers, files, strict=True):
        for name, value in from_imagebart(*file).state_dict().items():
            assert torch.equal(network.state_dict()[name], value), name
    model.save_pretrained(tmp_path)
    drawn = [
        sample(one.denoisers, (2, 16), process=one.process, generator=torch.Generator().manual_seed(0))
        for one in (model, ImageBART.from_pretrained(tmp_path))
    ]
    assert torch.equal(*drawn)
    shared = ImageBART.from_imagebart([(scale.weights("weights_residual"), scale.config["constructor"]["residual"])])
    assert [network is shared.networks[0] for network in shared.denoisers] == [True] * 4


@pytest.mark.parity
def test_files_that_are_no_chain_are_refused(golden) -> None:
    scale, gpt = golden("imagebart_scale"), golden("imagebart_gpt")
    weights, constructor = scale.weights("weights"), scale.config["constructor"]["x"]
    finer = [(weights, {**constructor, "single_scale": t}) for t in (1, 2, 3)]
    last = (gpt.weights("weights"), gpt.config["constructor"])
    with pytest.raises(ValueError, match="give the checkpoint of each scale"):
        ImageBART.from_imagebart([])
    with pytest.raises(ValueError, match=r"checkpoints of scales \[1, 2, 4\], expected those of 1 .. 4"):
        ImageBART.from_imagebart([*finer[:2], last])
    with pytest.raises(ValueError, match=r"checkpoints of scales \[2, 1, 3, 4\]"):
        ImageBART.from_imagebart([finer[1], finer[0], finer[2], last])
    other = {**last[0], "alphacum": torch.tensor([1, 0.9, 0.5, 0.2, 0])}
    with pytest.raises(ValueError, match="the schedules differ"):
        ImageBART.from_imagebart([*finer, (other, last[1])])
    early = (last[0], {**last[1], "single_scale": 3})
    with pytest.raises(ValueError, match="only the coarsest scale can be decoder-only"):
        ImageBART.from_imagebart([*finer[:2], early, last])


@pytest.mark.parity
def test_files_that_do_not_fit_are_refused(golden) -> None:
    case = golden("imagebart_scale")
    weights, constructor = case.weights("weights"), case.config["constructor"]["x"]
    with pytest.raises(ValueError, match="n_scales = 3, but the checkpoint's schedule has 4 scales"):
        from_imagebart(weights, {**constructor, "n_scales": 3})
    with pytest.raises(ValueError, match=r"no place for \['surprise'\]"):
        from_imagebart({**weights, "transformer.surprise": torch.zeros(1)}, constructor, averaged=False)
    short = {key: value for key, value in weights.items() if key != "transformer.decoder.to_logits.bias"}
    with pytest.raises(ValueError, match=r"nothing for \['logits.bias'\]"):
        from_imagebart(short, constructor)
    small = {**weights, "transformer.decoder.token_emb.weight": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match="tokens.weight is"):
        from_imagebart(small, constructor, averaged=False)
    plain = {key: value for key, value in weights.items() if not key.startswith("transformer_ema")}
    with pytest.raises(ValueError, match="no moving average"):
        from_imagebart(plain, constructor)
    options = constructor["transformer_config"]["params"]
    for change, message in (
        ({"enc_use_scalenorm": True}, r"options \['enc_use_scalenorm'\] are not supported"),
        ({"tie_token_emb": True}, "tie_token_emb = True is not supported"),
        ({"enc_heads": 4}, "enc_heads = 4 and dec_heads = 2 differ"),
    ):
        odd = {**constructor, "transformer_config": {"params": {**options, **change}}}
        with pytest.raises(ValueError, match=message):
            from_imagebart(weights, odd)


@pytest.mark.parity
def test_position_tables_with_rows_to_spare_are_cut(golden) -> None:
    """Oracle: the same logits as without the spare rows."""
    case = golden("imagebart_scale")
    weights, constructor = case.weights("weights"), case.config["constructor"]["x"]
    name = "transformer.encoder.pos_emb.emb.weight"
    longer = {**weights, name: torch.cat([weights[name], torch.full((1, 32), 9.0)])}
    src, target = case.io["x.src"], case.io["x.target"]
    with torch.no_grad():
        logits = from_imagebart(longer, constructor, averaged=False)(src[:, 1:], src[:, 0], target=target).value
    torch.testing.assert_close(logits, case.io["x.logits"], atol=1e-5, rtol=0)


def test_files_are_read_by_path_and_never_unpickled(tmp_path) -> None:
    """Oracle: equality with what was written, from either kind of file."""
    tensors = {"alphacum": torch.tensor([1.0, 0.0]), "sos_token": torch.zeros(1, dtype=torch.long)}
    torch.save({"state_dict": tensors, "global_step": 3}, tmp_path / "scale.ckpt")
    save_file(tensors, tmp_path / "scale.safetensors")
    for name in ("scale.ckpt", "scale.safetensors"):
        back = load_imagebart(tmp_path / name)
        assert back.keys() == tensors.keys()
        assert all(torch.equal(back[key], tensors[key]) for key in tensors)
    torch.save({"state_dict": tensors, "callbacks": object()}, tmp_path / "pickled.ckpt")
    with pytest.raises(ValueError, match="nothing is unpickled here"):
        load_imagebart(tmp_path / "pickled.ckpt")
    torch.save({"model": tensors}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"holds no ImageBART model; its entries are \['model'\]"):
        load_imagebart(tmp_path / "other.ckpt")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_imagebart(tmp_path / "none.ckpt")


SIZE = {"codes": 5, "grid": (2, 2), "width": 16, "heads": 2}
KEEP = [1.0, 0.6, 0.3, 0.0]
FINER = {"dim": 16, "enc_num_tokens": 5, "enc_depth": 1, "enc_heads": 2, "enc_max_seq_len": 4}
FINER |= {"dec_num_tokens": 5, "dec_depth": 2, "dec_heads": 2, "dec_max_seq_len": 4}
COARSEST = {"vocab_size": 5, "block_size": 4, "n_layer": 2, "n_head": 2, "n_embd": 16}


def official_keys() -> set[str]:
    """The names that two layers of each kind have in official files."""
    keys = {f"{name}{ending}" for name in _NAMES for ending in ("", ".weight", ".bias")}
    keys |= {
        f"{stack}.attn_layers.layers.{sublayer}.{part}"
        for stack, sublayer in product(("encoder", "decoder"), range(6))
        for part in ("0.weight", "0.bias", *(f"1.{name}" for name in _INSIDE))
    }
    parts = product(range(2), _BLOCK_PARTS, ("weight", "bias"))
    return keys | {f"blocks.{i}.{part}.{kind}" for i, part, kind in parts}


def released(network: EncoderDecoder | DecoderOnly) -> dict[str, Tensor]:
    """Its tensors as the official trainer saves them, their moving average twice as large."""
    official = {_rename(key): key for key in official_keys()}
    weights = {"alphacum": torch.tensor(KEEP), "sos_token": torch.tensor([3])}
    for name, value in network.state_dict().items():
        joined = next((part for part in ("query_key_value", "key_value") if part in name), "value")
        for part, each in zip(joined.split("_"), value.chunk(joined.count("_") + 1), strict=True):
            key = official[name.replace(joined, part)]
            weights |= {f"transformer.{key}": each, f"transformer_ema.{key.replace('.', '')}": 2 * each}
    return weights


@pytest.mark.parametrize("kind", ["finer", "coarsest"])
def test_what_went_out_under_official_names_comes_back(kind: str) -> None:
    """Checks: ImageBART encoder-decoder scales, decoder-only scale"""
    if kind == "finer":
        ours: EncoderDecoder | DecoderOnly = EncoderDecoder(**SIZE, encoder_depth=1, decoder_depth=2, head_width=8)
    else:
        ours = DecoderOnly(**SIZE, depth=2)
    config = {"n_scales": 3, "transformer_config": {"params": FINER if kind == "finer" else COARSEST}}
    for averaged in (False, True):
        again = from_imagebart(released(ours), {"model": {"params": config}}, averaged=averaged)
        for name, value in ours.state_dict().items():
            assert torch.equal(again.state_dict()[name], value * (1 + averaged)), name


def test_files_of_another_configuration_are_refused() -> None:
    weights = released(EncoderDecoder(**SIZE, encoder_depth=1, decoder_depth=2, head_width=8))
    plain = {key: value for key, value in weights.items() if not key.startswith("transformer_ema")}
    for given, options, scales, message in (
        (weights, {}, 4, "n_scales = 4, but the checkpoint's schedule has 3 scales"),
        (
            weights | {"transformer.surprise": torch.zeros(1), "transformer_ema.surprise": torch.zeros(1)},
            {},
            3,
            "surprise",
        ),
        (plain, {}, 3, "no moving average"),
        (weights, {"enc_use_scalenorm": True}, 3, r"options \['enc_use_scalenorm'\] are not supported"),
        (weights, {"tie_token_emb": True}, 3, "tie_token_emb = True is not supported"),
        (weights, {"enc_heads": 4}, 3, "enc_heads = 4 and dec_heads = 2 differ"),
        (weights, {"dim": 8}, 3, r"state_dict does not fit config: .* not \("),
    ):
        with pytest.raises(ValueError, match=message):
            from_imagebart(given, {"n_scales": scales, "transformer_config": {"params": FINER | options}})
