"""Data sets made here, read back, and compared with what was put into them."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from reproductions import data
from reproductions.data import Split, check, fingerprint
from reproductions.drawn.shapes import SETS
from reproductions.tests.datasets_made import (
    colour,
    load,
    picture,
    seen,
    settings,
    write_folder,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("datasets_cache")
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


# --- drawn sets and digits


@pytest.mark.parametrize("name", SETS)
def test_drawn_sets_have_the_sizes_asked_for_and_truthful_attributes(name):
    splits = load(settings(name, train_size=60, held_out_size=30))
    for split, count in ((splits.train, 60), (splits.held_out, 30)):
        assert split.images.shape == (count, 3, 8, 8) and len(split.captions) == count
        for captions, row in zip(split.captions, split.attributes.tolist(), strict=True):
            assert list(SETS[name].vocabulary.attributes_of(captions[0])) == row
    two = {captions[0] for captions in splits.train.captions[1::2]} & {c[0] for c in splits.held_out.captions[1::2]}
    assert not two
    assert "never occurs in training" in splits.note and splits.bad == ()


def test_the_seed_decides_and_the_digest_tells():
    digests = [load(settings("shapes", train_size=8, held_out_size=4, seed=seed)).digest for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_covers_pixels_captions_and_attributes():
    split = load(settings("shapes", train_size=4, held_out_size=4)).train
    one = data.digest(split)
    pixels = split.images.clone()
    pixels[0, 0, 0, 0] ^= 1
    assert one != data.digest(Split(pixels, split.captions, split.attributes))
    assert one != data.digest(Split(split.images, split.captions[::-1], split.attributes))
    assert one != data.digest(Split(split.images, split.captions, split.attributes + 1))


def test_digits_say_what_they_are():
    splits = load(settings("digits", train_size=300, held_out_size=1_000, resolution=16))
    assert len(splits.train.captions) == 300 and len(splits.held_out.captions) == 179
    assert {captions[0].removeprefix("a handwritten ") for captions in splits.train.captions} == {*data.DIGIT_WORDS}
    from sklearn.datasets import load_digits

    truth = load_digits()
    ours = {word: [] for word in data.DIGIT_WORDS}
    for image, captions in zip(splits.held_out.images.float() / 255, splits.held_out.captions, strict=True):
        ours[captions[0].split()[-1]].append(torch.nn.functional.avg_pool2d(image[:1], 2)[0])
    for digit, word in enumerate(data.DIGIT_WORDS):
        mean = truth.images[truth.target == digit].mean(0) / 16
        assert np.abs(torch.stack(ours[word]).mean(0).numpy() - mean).mean() < 0.1


def test_splits_are_saved_and_loaded_unchanged(tmp_path):
    split = load(settings("shapes", train_size=6, held_out_size=4)).train
    for kept in (split, Split(split.images, (("a", "b"), *split.captions[1:]), None)):
        kept.save(tmp_path / "split")
        back = Split.load(tmp_path / "split")
        assert torch.equal(back.images, kept.images) and back.captions == kept.captions
        assert (back.attributes is None) == (kept.attributes is None)
        assert data.digest(back) == data.digest(kept)


# --- folders and parquet files


def test_a_folder_with_captions_is_read_and_a_tenth_held_out(tmp_path):
    folder = write_folder(tmp_path / "pictures", 20)
    bars = []
    splits = load(settings(folder), progress=lambda items, total, done: bars.append(total) or items)
    assert bars == [18, 2]
    both = seen(splits.train) | seen(splits.held_out)
    assert len(splits.train.captions) == 18 and len(splits.held_out.captions) == 2
    assert both == {f"picture {i}": colour(i) for i in range(20)}
    assert "held out from 'train'" in splits.note
    assert load(settings(folder)).digest == splits.digest != load(settings(folder, seed=1)).digest


def test_sizes_are_upper_limits(tmp_path):
    folder = write_folder(tmp_path / "pictures", 30)
    splits = load(settings(folder, train_size=5, held_out_size=2))
    assert (len(splits.train.captions), len(splits.held_out.captions)) == (5, 2)
    assert not seen(splits.train).keys() & seen(splits.held_out).keys()


def test_folders_of_classes_give_captions(tmp_path):
    for name in ("black_cat", "dog"):
        (tmp_path / "pets" / "train" / name).mkdir(parents=True)
        (tmp_path / "pets" / "test" / name).mkdir(parents=True)
        for index in range(3):
            (tmp_path / "pets" / "train" / name / f"{index}.png").write_bytes(picture(index))
        (tmp_path / "pets" / "test" / name / "0.png").write_bytes(picture(9))
    splits = load(settings(tmp_path / "pets"))
    assert {c[0] for c in splits.train.captions} == {"black cat", "dog"}
    assert len(splits.train.captions) == 6 and len(splits.held_out.captions) == 2
    assert "from the split 'test'" in splits.note


def test_parquet_files_are_named_after_their_splits(tmp_path):
    for name, indices in (
        ("train-00000-of-00002", [0, 1]),
        ("train-00001-of-00002", [2]),
        ("validation", [3]),
        ("test", [4]),
    ):
        captions = [[f"picture {i}", f"again {i}", " "] for i in indices]
        write_parquet(tmp_path / "set" / "data" / f"{name}.parquet", indices, captions=captions)
    splits = load(settings(tmp_path / "set"))
    assert seen(splits.train) == {f"picture {i}": colour(i) for i in range(3)}
    assert splits.held_out.captions == (("picture 3", "again 3"),)


def test_one_parquet_file_is_enough_and_columns_can_be_chosen(tmp_path):
    path = write_parquet(
        tmp_path / "all.parquet", range(10), caption=["x"] * 10, german=[f"Bild {i}" for i in range(10)]
    )
    splits = load(settings(path, caption_column="german"))
    assert seen(splits.train) | seen(splits.held_out) == {f"Bild {i}": colour(i) for i in range(10)}


# --- bad files


def test_bad_files_are_all_named_at_once(rotten):
    with pytest.raises(ValueError, match="2 of the pictures cannot be used, and 0 are allowed; --max-bad 2") as error:
        load(settings(rotten))
    assert "003.png: " in str(error.value) and "005.png: empty caption" in str(error.value)
    with pytest.raises(ValueError, match="--max-bad 2"):
        load(settings(rotten, max_bad=1))


def test_allowed_bad_files_are_counted_and_left_out(rotten):
    splits = load(settings(rotten, max_bad=2))
    assert {bad.where for bad in splits.bad} == {"003.png", "005.png"}
    assert seen(splits.train) | seen(splits.held_out) == {
        f"picture {i}": colour(i) for i in range(20) if i not in (3, 5)
    }


def test_bad_rows_are_named_by_split_and_number(tmp_path):
    write_parquet(tmp_path / "set" / "train.parquet", range(3), text=["a", "", "c"])
    write_parquet(tmp_path / "set" / "test.parquet", [4], text=["d"])
    splits = load(settings(tmp_path / "set", max_bad=1))
    assert [(bad.where, bad.reason) for bad in splits.bad] == [("train row 1 (1.png)", "empty caption")]


def test_a_split_with_nothing_usable_is_refused(tmp_path):
    write_parquet(tmp_path / "set" / "train.parquet", range(3), text=["a", "b", "c"])
    write_parquet(tmp_path / "set" / "test.parquet", [4], text=[""])
    with pytest.raises(ValueError, match="nothing usable to hold out is left of the split 'test'"):
        load(settings(tmp_path / "set", max_bad=1))


# --- refusals before any work


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("shaps", "did you mean 'shapes'"),
        ("Digit", "did you mean 'digits'"),
        ("shapes_hard", "'shapes-hard'"),
        ("xyzzy", "Known are"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name, match):
    with pytest.raises(ValueError, match=match):
        check(settings(name))


@pytest.mark.parametrize("changes", [{"resolution": 4}, {"train_size": 0}, {"held_out_size": 0}, {"max_bad": -1}])
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must be at least"):
        check(settings("shapes", **changes))


def test_missing_paths_and_empty_folders_are_refused(tmp_path):
    for name in (tmp_path / "nothing", tmp_path / "nothing.parquet", "./nothing"):
        with pytest.raises(FileNotFoundError, match="nothing"):
            check(settings(name))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no pictures")
    with pytest.raises(ValueError, match="holds no pictures"):
        check(settings(tmp_path / "empty"))


def test_missing_columns_are_refused_with_those_there(tmp_path):
    path = write_parquet(tmp_path / "all.parquet", range(4), words=["a"] * 4, number=[1] * 4)
    with pytest.raises(ValueError, match="image, words, number .*--caption-column"):
        check(settings(path))
    with pytest.raises(ValueError, match="no caption column 'caption'.*image, words, number"):
        check(settings(path, caption_column="caption"))
    with pytest.raises(ValueError, match="'number' holds .*not text"):
        check(settings(path, caption_column="number"))
    with pytest.raises(ValueError, match="no image column 'photo'.*image, words, number"):
        check(settings(path, image_column="photo", caption_column="words"))
    check(settings(path, caption_column="words"))


def test_a_broken_parquet_file_is_refused(tmp_path):
    (tmp_path / "all.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ValueError, match="cannot be read"):
        check(settings(tmp_path / "all.parquet"))


def test_a_hub_that_cannot_be_reached_is_said_so(monkeypatch):
    def fail(name, revision):
        raise OSError(f"no route to {name}@{revision}")

    monkeypatch.setattr("datasets.load_dataset_builder", fail)
    with pytest.raises(
        ConnectionError, match="'nobody/nothing' is no file or folder here.*no route to nobody/nothing@v1"
    ):
        check(settings("nobody/nothing", revision="v1"))
    monkeypatch.setattr("datasets.load_dataset_builder", lambda name, revision: _Builder())
    with pytest.raises(ValueError, match="no captions found; the columns are: image"):
        check(settings("nobody/nothing"))


class _Builder:
    class info:
        features = {"image": None}


# --- fingerprints


def test_fingerprints_follow_the_content(tmp_path):
    folder = write_folder(tmp_path / "pictures", 3)
    before = fingerprint(settings(folder))
    assert before == fingerprint(settings(folder, seed=3))
    os.utime(folder / "000.png", (0, 0))
    assert before == fingerprint(settings(folder))
    (folder / "000.png").write_bytes(picture(7))
    assert before != fingerprint(settings(folder))


def test_the_fingerprint_of_a_file_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "all.parquet"
    path.write_bytes(b"content")
    content = hashlib.sha256(b"content").hexdigest()
    whole = hashlib.sha256(f"all.parquet\0007\0{content}\n".encode()).hexdigest()
    assert fingerprint(settings(path)) == f"sha256:{whole}"


def test_fingerprints_of_drawn_and_hub_sets_need_no_data():
    assert fingerprint(settings("shapes")) != fingerprint(settings("shapes-hard"))
    assert fingerprint(settings("owner/name", revision="abc")) == "owner/name@abc"
    assert fingerprint(settings("owner/name")) == "owner/name@main"


# --- real files in the published layouts


@pytest.mark.parity
@pytest.mark.parametrize(("name", "pictures"), [("noto_emoji128", 1_405), ("flickr8k_1k", 753 + 113)])
def test_published_layouts_are_read(name, pictures):
    if not (SHARED / name).is_dir():
        pytest.skip(f"{SHARED / name} is not there: the real data sets lie outside the repository")
    splits = load(settings(SHARED / name, train_size=2_000, held_out_size=200))
    assert len(splits.train.captions) + len(splits.held_out.captions) == pictures
    assert splits.bad == ()
