"""Sets larger than memory: killed while they are read, read again; and what reading them takes."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from reproductions import data
from reproductions.data import Split
from reproductions.gathering import reading
from reproductions.gathering.uncaptioned import load_pictures
from reproductions.tests.datasets_made import caption, picture, settings, write_folder, write_shard

pytestmark = pytest.mark.usefixtures("datasets_cache")


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
