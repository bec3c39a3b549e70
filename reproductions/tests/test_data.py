"""Data sets made here, read back, and compared with what was put into them."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reproductions import data
from reproductions.data import DataSettings, Split, Splits, check, fingerprint
from reproductions.drawn.shapes import SETS
from reproductions.gathering import data_presets, reading, sources
from reproductions.gathering.uncaptioned import check_pictures, load_pictures
from reproductions.modelling import title_of
from reproductions.table_profiles import PAPER_NAMES, paper_name

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture(autouse=True)
def datasets_cache(tmp_path, monkeypatch):
    from datasets import config

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(config, "HF_DATASETS_OFFLINE", True, raising=False)


def load(settings: DataSettings, **options) -> Splits:
    return data.load(settings, Path(tempfile.mkdtemp()), **options)


def colour(index: int) -> tuple[int, int, int]:
    return 10 * index % 256, 255 - 10 * index % 256, 7 * index % 256


def picture(index: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (20, 12), colour(index)).save(stream, "PNG")
    return stream.getvalue()


def settings(name, **changes) -> DataSettings:
    return DataSettings(**{"name": str(name), "resolution": 8, "train_size": 100, "held_out_size": 50, **changes})


def write_parquet(path: Path, indices, **columns) -> Path:
    import datasets

    content = {"image": [{"bytes": picture(i), "path": f"{i}.png"} for i in indices], **columns}
    features = datasets.Features({"image": datasets.Image(), **{k: _feature(v) for k, v in columns.items()}})
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_dict(content, features=features).to_parquet(path)
    return path


def _feature(values):
    import datasets

    if isinstance(values[0], list):
        return datasets.List(datasets.Value("string")) if hasattr(datasets, "List") else [datasets.Value("string")]
    return datasets.Value("string") if isinstance(values[0], str) else datasets.Value("int64")


def write_folder(folder: Path, count: int, caption=lambda i: f"picture {i}") -> Path:
    folder.mkdir(parents=True)
    lines = []
    for index in range(count):
        (folder / f"{index:03}.png").write_bytes(picture(index))
        lines.append(json.dumps({"file_name": f"{index:03}.png", "text": caption(index)}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def seen(split: Split) -> dict[str, tuple[int, ...]]:
    """First caption -> colour of the picture."""
    return {
        several[0]: tuple(image[:, 4, 4].tolist()) for several, image in zip(split.captions, split.images, strict=True)
    }


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


@pytest.fixture
def rotten(tmp_path):
    folder = write_folder(tmp_path / "pictures", 20, lambda i: " " if i == 5 else f"picture {i}")
    (folder / "003.png").write_bytes(picture(3)[:60])
    return folder


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
    with pytest.raises(ValueError, match="nothing usable is left of the split 'test'"):
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


# --- shards


def write_shard(path: Path, indices, **beside) -> Path:
    """A WebDataset shard: pictures with what stands beside each, by suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i in indices:
            contents = {"png": picture(i), **{suffix: make(i).encode() for suffix, make in beside.items()}}
            for suffix, content in contents.items():
                member = tarfile.TarInfo(f"{i:05}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def caption(index: int) -> str:
    return f"picture {index}"


def test_shards_are_read_by_pattern_folder_and_file(tmp_path):
    """Oracle: what was put into them."""
    for number in range(3):
        write_shard(tmp_path / "shards" / f"{number:05}.tar", range(4 * number, 4 * number + 4), txt=caption)
    everything = {f"picture {i}": colour(i) for i in range(12)}
    for name in (tmp_path / "shards" / "{00000..00002}.tar", tmp_path / "shards"):
        splits = load(settings(name))
        assert seen(splits.train) | seen(splits.held_out) == everything
    pattern = settings(tmp_path / "shards" / "{00001..00002}.tar")
    splits = load(pattern)
    assert {*seen(splits.train), *seen(splits.held_out)} == {f"picture {i}" for i in range(4, 12)}
    assert fingerprint(pattern) != fingerprint(settings(tmp_path / "shards"))
    assert len(load(settings(tmp_path / "shards" / "00000.tar")).train.captions) == 3


def test_captions_of_shards_may_stand_in_json(tmp_path):
    write_shard(tmp_path / "train-0.tar", range(3), json=lambda i: json.dumps({"caption": f"picture {i}", "seen": i}))
    write_shard(tmp_path / "val-0.tar", [3], json=lambda i: json.dumps({"caption": f"picture {i}", "seen": i}))
    splits = load(settings(tmp_path))
    assert seen(splits.train) == {f"picture {i}": colour(i) for i in range(3)}
    assert seen(splits.held_out) == {"picture 3": colour(3)}


def test_missing_and_empty_shards_are_told(tmp_path):
    write_shard(tmp_path / "00000.tar", [0], txt=caption)
    with pytest.raises(FileNotFoundError, match="2 of 3 shards are not there: 00001.tar, 00002.tar"):
        check(settings(tmp_path / "{00000..00002}.tar"))
    with pytest.raises(ValueError, match="write the smaller number first"):
        check(settings(tmp_path / "{2..1}.tar"))
    write_shard(tmp_path / "bare" / "0.tar", [0, 1])
    with pytest.raises(ValueError, match="no captions found"):
        check(settings(tmp_path / "bare" / "0.tar"))
    (tmp_path / "broken.tar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="cannot be read"):
        check(settings(tmp_path / "broken.tar"))


def test_shards_are_read_as_the_same_pictures_in_a_folder_are(tmp_path):
    """Oracle: the folder, which `datasets` reads; the digest is of all pixels and captions in their order."""
    folder = settings(write_folder(tmp_path / "pictures", 20), seed=3)
    write_shard(tmp_path / "shards" / "-empty.tar", [])
    for number in range(3):
        write_shard(tmp_path / "shards" / f"{number}.tar", range(20)[number * 7 : number * 7 + 7], txt=caption)
    assert load(settings(tmp_path / "shards", seed=3)).digest == load(folder).digest


def test_bad_rows_of_shards_are_named_by_shard_and_file(tmp_path):
    def said(index: int) -> str:
        return "{" if index == 2 else json.dumps({"captions": [] if index == 5 else [f"a {index}", "b"]})

    write_shard(tmp_path / "a.tar", range(4), json=said)
    write_shard(tmp_path / "b.tar", range(4, 8), json=said)
    splits = load(settings(tmp_path, max_bad=2))
    assert {(bad.where, bad.reason) for bad in splits.bad} == {
        ("a.tar/00002.png", "empty caption"),
        ("b.tar/00005.png", "empty caption"),
    }
    assert {*splits.train.captions, *splits.held_out.captions} == {(f"a {i}", "b") for i in (0, 1, 3, 4, 6, 7)}


def test_shards_of_a_hub_have_the_usual_columns(tmp_path, monkeypatch):
    import datasets

    shard = write_shard(tmp_path / "0.tar", range(4), json=lambda i: json.dumps({"caption": f"picture {i}"}), cls=str)
    opened = datasets.load_dataset("webdataset", data_files={"train": str(shard)}, cache_dir=str(tmp_path))
    monkeypatch.setattr("datasets.load_dataset", lambda name, revision: opened)
    rows = sources.open_hub("owner/name", None)["train"]
    assert {"image", "text", "label"} <= {*rows.features} and rows["text"] == [f"picture {i}" for i in range(4)]


# --- sets larger than memory


class Killed(BaseException):
    """What nothing catches."""


@pytest.mark.parametrize("kind", ["folder", "shards", "labelled"])
def test_a_killed_reading_goes_on_and_ends_equal(kind, tmp_path, monkeypatch):
    """Oracles: a reading that nobody killed, and what safetensors writes of the same pictures; one picture is torn."""
    monkeypatch.setattr(reading, "AT_ONCE", 3)
    source, read = _source(kind, tmp_path)

    def stopping(at: int):
        def progress(rows, total: int, done: int):
            begun.append((total, done))
            for count, row in enumerate(rows, done):
                if count == at:
                    raise Killed
                yield row

        return progress

    begun: list[tuple[int, int]] = []
    whole = read(source, tmp_path / "whole", progress=lambda rows, total, done: rows)
    for at in (8, 11, 17):
        with pytest.raises(Killed):
            read(source, tmp_path / "killed", progress=stopping(at))
    again = read(source, tmp_path / "killed", progress=stopping(-1))
    assert begun == [(18, 0), (18, 6), (18, 9), (18, 15), (2, 0)]
    assert again.digest == whole.digest and again.bad == whole.bad and len(whole.bad) == 1
    for split in ("train", "held_out"):
        Split(*(getattr(getattr(whole, split), name) for name in ("images", "captions", "attributes"))).save(
            tmp_path / "expected"
        )
        for name in ("pictures.safetensors", "captions.json"):
            expected = (tmp_path / "expected" / name).read_bytes()
            assert (tmp_path / "whole" / split / name).read_bytes() == expected
            assert (tmp_path / "killed" / split / name).read_bytes() == expected


def _source(kind: str, folder: Path):
    """Twenty pictures, the fourth torn, and what reads them."""
    if kind == "labelled":
        import datasets

        names = datasets.ClassLabel(names=["even", "odd"])
        features = datasets.Features({"image": datasets.Image(), "label": names})
        images = [{"bytes": picture(i)[: 60 if i == 3 else None], "path": None} for i in range(20)]
        rows = datasets.Dataset.from_dict({"image": images, "label": [i % 2 for i in range(20)]}, features=features)
        rows.to_parquet(folder / "all.parquet")
        return settings(folder / "all.parquet", max_bad=1), partial(load_pictures, label="label")
    if kind == "folder":
        write_folder(folder / "pictures", 20)
        (folder / "pictures" / "003.png").write_bytes(picture(3)[:60])
        return settings(folder / "pictures", max_bad=1), data.load
    for number in range(4):
        say = {"txt": lambda i: " " if i == 3 else caption(i)}
        write_shard(folder / "shards" / f"{number}.tar", range(5 * number, 5 * number + 5), **say)
    return settings(folder / "shards", max_bad=1), data.load


def test_what_was_read_is_not_kept_where_too_much_is_bad(rotten, tmp_path):
    with pytest.raises(ValueError, match="--max-bad 2"):
        data.load(settings(rotten), tmp_path / "read")
    assert not [file for file in (tmp_path / "read").rglob("*") if file.is_file()]


MEASURED = """
import resource, sys
from pathlib import Path
from reproductions.data import DataSettings, load

def read(name):
    load(DataSettings(name=name, resolution=128, train_size=9999, held_out_size=8), Path(name).with_suffix(".read"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

print(*map(read, sys.argv[1:]))
"""


def test_memory_does_not_grow_with_the_set(tmp_path):
    """Peaks of one process that reads 100 pictures, 200, and four times as many; 600 are 28 MiB at 128 pixels."""
    for count in (100, 200, 800):
        for first in range(0, count, 100):
            write_shard(tmp_path / str(count) / f"{first:04}.tar", range(first, first + 100), txt=caption)
    command = [sys.executable, "-c", MEASURED, *(str(tmp_path / str(count)) for count in (100, 200, 800))]
    told = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    _, twice, many = map(int, told.stdout.split())
    scale = 1 << 10 if sys.platform == "darwin" else 1
    assert (many - twice) / scale < 8 << 10


# --- presets


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
