"""Data sets to be read: pictures of one colour each, written as folders, parquet files and shards."""

import io
import json
import tarfile
import tempfile
from pathlib import Path

from PIL import Image

from reproductions import data
from reproductions.data import DataSettings, Split, Splits


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


def write_shard(path: Path, indices, called=lambda i: "png", **beside) -> Path:
    """A WebDataset shard: pictures, their suffix by index, with what stands beside each, by suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i in indices:
            contents = {called(i): picture(i), **{suffix: make(i).encode() for suffix, make in beside.items()}}
            for suffix, content in contents.items():
                member = tarfile.TarInfo(f"{i:05}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


def caption(index: int) -> str:
    return f"picture {index}"
