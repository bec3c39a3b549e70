"""WebDataset shards made here, read back, and compared with what was put into them."""

import io
import json
import tarfile

import pytest

from reproductions.data import check, fingerprint
from reproductions.gathering import sources
from reproductions.tests.datasets_made import caption, colour, load, picture, seen, settings, write_folder, write_shard

pytestmark = pytest.mark.usefixtures("datasets_cache")


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
        odd = {3: 2024, 5: [], 6: [7, "a 6", "b"]}
        return "{" if index == 2 else json.dumps({"captions": odd.get(index, [f"a {index}", "b"])})

    write_shard(tmp_path / "a.tar", range(4), json=said)
    write_shard(tmp_path / "b.tar", range(4, 8), json=said)
    splits = load(settings(tmp_path, max_bad=3))
    assert {(bad.where, bad.reason) for bad in splits.bad} == {
        ("a.tar/00002.png", "empty caption"),
        ("a.tar/00003.png", "empty caption"),
        ("b.tar/00005.png", "empty caption"),
    }
    assert {*splits.train.captions, *splits.held_out.captions} == {(f"a {i}", "b") for i in (0, 1, 4, 6, 7)}


def test_pictures_of_shards_may_have_any_suffix(tmp_path):
    shard = write_shard(tmp_path / "0.tar", range(12), lambda i: "jpg" if i < 7 else "jpeg", txt=caption)
    splits = load(settings(shard))
    assert seen(splits.train) | seen(splits.held_out) == {f"picture {i}": colour(i) for i in range(12)}


def test_a_second_picture_of_a_sample_is_not_its_image(tmp_path):
    """The last sample has no picture but the second one, which does not stand in for it."""
    path = tmp_path / "0.tar"
    write_shard(path, range(8), lambda i: "edges.png" if i == 7 else "png", txt=caption)
    with tarfile.open(path, "r:") as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    edges = picture(100)
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
            if member.name.endswith("0.png"):
                second = tarfile.TarInfo(member.name.replace(".png", ".edges.png"))
                second.size = len(edges)
                tar.addfile(second, io.BytesIO(edges))
    splits = load(settings(path, max_bad=1))
    assert [bad.reason for bad in splits.bad] == ["no picture"]
    assert seen(splits.train) | seen(splits.held_out) == {f"picture {i}": colour(i) for i in range(7)}


def test_shards_of_a_hub_have_the_usual_columns(tmp_path, monkeypatch):
    import datasets

    shard = write_shard(tmp_path / "0.tar", range(4), json=lambda i: json.dumps({"caption": f"picture {i}"}), cls=str)
    opened = datasets.load_dataset("webdataset", data_files={"train": str(shard)}, cache_dir=str(tmp_path))
    monkeypatch.setattr("datasets.load_dataset", lambda name, revision: opened)
    rows = sources.open_hub("owner/name", None)["train"]
    assert {"image", "text", "label"} <= {*rows.features} and rows["text"] == [f"picture {i}" for i in range(4)]
