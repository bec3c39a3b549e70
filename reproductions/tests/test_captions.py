"""What the small encoder's tokenizer makes of a data set's captions; the package tests the rest."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reproductions.artefacts import Desk
from reproductions.data import Split
from reproductions.drawn.shapes import SETS
from reproductions.drawn.vocabulary import as_attributes
from reproductions.profiles import Captions
from reproductions.runner import Silence
from reproductions.stages.captioning import BytePairs
from reproductions.stages.preparing import tokenise


@pytest.mark.parametrize("name", SETS)
def test_every_word_of_drawn_captions_is_one_token(name: str) -> None:
    words = SETS[name].vocabulary
    rows = [*words.one_shape, *words.two_shape[::7]]
    captions = [words.caption(as_attributes(row)) for row in rows]
    tokens = BytePairs.train(captions, vocabulary=1024, length=16)(captions)
    assert [int(count) for count in (tokens > 0).sum(1)] == [len(caption.split()) for caption in captions]


def test_long_captions_are_cut_without_a_word_and_counted(tmp_path: Path) -> None:
    captions = (("a red circle above a blue square",), ("a red circle", "a red circle above"), ("a red",))
    Split(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), captions).save(tmp_path / "data" / "train")
    (tmp_path / "captions").mkdir()
    settings = Captions(width=8, heads=2, vocabulary=300, length=5)
    tokenise(Desk(tmp_path / "captions", settings, {"data": tmp_path / "data"}, Silence(), tmp_path / "board"))
    tokenizer = BytePairs.load(tmp_path / "captions" / "tokenizer.json")
    lengths = [len(tokenizer.bpe.encode(each).ids) for several in captions for each in several]
    stored = load_file(tmp_path / "captions" / "tokens.safetensors")
    assert stored["tokens"].shape == (4, 5) and stored["first"].tolist() == [0, 1, 3, 4]
    assert (stored["tokens"] > 0).sum(1).tolist() == [min(length, 5) for length in lengths]
    facts = (tmp_path / "captions" / "facts.json").read_text()
    assert f'"cut": {sum(length > 5 for length in lengths)}' in facts and max(lengths) > 5
