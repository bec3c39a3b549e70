"""LDM's encoder of tokens, against the official states."""

from pathlib import Path
from typing import Any

import pytest
import torch

from continuous_diffusion import TokenEncoder, token_encoder_from_compvis


def small(**changes: Any) -> TokenEncoder:
    arguments = {"vocabulary": 11, "length": 6, "width": 8, "depth": 2, "heads": 2, "head_width": 4}
    return TokenEncoder(**(arguments | changes))


@pytest.mark.parity
def test_official_states(golden: Any) -> None:
    """Checks: LDM conditioning mechanisms"""
    case = golden("ldm_bert_encoder")
    config = {key: value for key, value in case.config["constructor"].items() if key != "attention"}
    encoder = token_encoder_from_compvis(case.weights, config)
    tokens = case.io["tokens"]
    with torch.no_grad():
        states = encoder(tokens)
        masked = encoder(tokens, kept=case.io["mask"].bool())
    torch.testing.assert_close(states, case.io["states"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.logits(states), case.io["mlm_logits"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(masked, case.io["states_with_mask"], atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_other_files_are_refused(golden: Any) -> None:
    case = golden("ldm_bert_encoder")
    config = {"n_embed": 32, "n_layer": 2, "vocab_size": 120, "max_seq_len": 16}
    with pytest.raises(KeyError, match="lacks 13 parameters"):
        token_encoder_from_compvis(case.weights, config | {"n_layer": 3})
    with pytest.raises(ValueError, match=r"pos_emb.emb.weight: shape \(16, 32\), config asks for \(17, 32\)"):
        token_encoder_from_compvis(case.weights, config | {"max_seq_len": 17})
    with pytest.raises(ValueError, match=r"\['surprise'\] are not known"):
        token_encoder_from_compvis(case.weights, config | {"surprise": 1})


def test_what_is_left_out_is_not_seen() -> None:
    """The states kept are those of other tokens behind the mask too."""
    encoder, kept = small(), torch.tensor([[True] * 4 + [False] * 2])
    one, other = torch.tensor([[1, 2, 3, 4, 5, 6]]), torch.tensor([[1, 2, 3, 4, 7, 8]])
    torch.testing.assert_close(encoder(one, kept=kept)[:, :4], encoder(other, kept=kept)[:, :4], atol=1e-6, rtol=1e-5)
    assert (encoder(one)[:, :4] - encoder(other)[:, :4]).abs().max() > 1e-4


def test_shorter_sequences_have_the_first_positions() -> None:
    encoder = small(depth=0)
    tokens = torch.tensor([[1, 2, 3, 4, 5, 6]])
    assert torch.equal(encoder(tokens[:, :3]), encoder(tokens)[:, :3])


def test_the_published_size() -> None:
    """Thirty-two layers of width 1280 with BERT's vocabulary."""
    with torch.device("meta"):
        encoder = TokenEncoder()
    width, inner, words = 1280, 512, 30522
    block = 3 * width * inner + inner * width + width + 2 * 4 * width * width + 5 * width + 4 * width
    count = words * width + 77 * width + 32 * block + 2 * width + width * words + words
    assert sum(parameter.numel() for parameter in encoder.parameters()) == count


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    encoder = small()
    encoder.save_pretrained(tmp_path)
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(TokenEncoder.from_pretrained(tmp_path)(tokens), encoder(tokens))


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ValueError, match="7 of them, this encoder has length=6"):
        small()(torch.zeros(1, 7, dtype=torch.int64))
    with pytest.raises(ValueError, match="tokens: 1 to 11, expected 0..10"):
        small()(torch.tensor([[1, 11]]))
