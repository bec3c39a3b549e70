"""The paper's data sets by name: whole ones are read, others are told apart from what they should be."""

from pathlib import Path

import pytest

from reproductions.data import check, fingerprint
from reproductions.gathering import data_presets
from reproductions.gathering.uncaptioned import check_pictures
from reproductions.modelling import title_of
from reproductions.table_profiles import PAPER_NAMES, paper_name
from reproductions.tests.datasets_made import load, settings, write_parquet

pytestmark = pytest.mark.usefixtures("datasets_cache")


@pytest.fixture
def tiny(monkeypatch):
    """A preset of eight pictures and two, with two captions each."""
    presets = {**data_presets.DATA_PRESETS, "tiny": data_presets.Preset("Tiny", 8, 2, several=2, side=12)}
    monkeypatch.setattr(data_presets, "DATA_PRESETS", presets)


def write_tiny(folder: Path, train: int, test: int, captions: int = 2) -> str:
    for name, indices in (("train", range(train)), ("test", range(train, train + test))):
        several = [[f"picture {i}", f"again {i}"][:captions] for i in indices]
        write_parquet(folder / f"{name}.parquet", indices, captions=several)
    return f"tiny={folder}"


def test_a_preset_that_is_whole_is_read_like_its_place(tiny, tmp_path):
    name = write_tiny(tmp_path / "set", 8, 2)
    assert fingerprint(settings(name)) == fingerprint(settings(tmp_path / "set"))
    assert load(settings(name)).digest == load(settings(tmp_path / "set")).digest
    assert title_of(name) == "Tiny"
    one = write_parquet(tmp_path / "all.parquet", range(10), captions=[["a", "b"]] * 10)
    check(settings(f"tiny={one}"))


def test_what_is_wrong_with_a_preset_is_named(tiny, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"set is not Tiny.*'train': 7 pictures; expected 8.*'test': 3 .*expected 2"):
        check_all(write_tiny(tmp_path / "set", 7, 3))
    with pytest.raises(ValueError, match=r"8 of the rows looked at have too few captions, row 0 has 1; expected at"):
        check_all(write_tiny(tmp_path / "mute", 8, 2, captions=1))
    lone = write_parquet(tmp_path / "lone.parquet", range(9), captions=[["a", "b"]] * 9)
    with pytest.raises(ValueError, match=r"one split 'train' of 9 pictures; expected 10, or 8"):
        check_all(f"tiny={lone}")
    presets = {**data_presets.DATA_PRESETS, "tiny": data_presets.Preset("Tiny", 8, 2, labels=True, side=13)}
    monkeypatch.setattr(data_presets, "DATA_PRESETS", presets)
    with pytest.raises(ValueError, match=r"no column 'label'.*too few pixels on the short side, row 0 has 12;"):
        check_all(f"tiny={tmp_path / 'mute'}")


def check_all(name: str) -> None:
    try:
        check_pictures(settings(name))
    except ValueError as error:
        raise ValueError(str(error).replace("\n", " ")) from error


def test_presets_want_a_place():
    with pytest.raises(ValueError, match="coco=PATH"):
        check(settings("coco"))
    with pytest.raises(ValueError, match="no preset is called 'coca'; did you mean coco=/x"):
        check(settings("coca=/x"))
    with pytest.raises(FileNotFoundError, match="no such file or folder: /nowhere"):
        check(settings("ffhq=/nowhere"))
    assert {paper_name(preset.title) for preset in data_presets.DATA_PRESETS.values()} > {*PAPER_NAMES}
