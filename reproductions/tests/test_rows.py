"""Files that are written some rows at a time, against those that safetensors writes at once."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from reproductions.gathering import rows
from reproductions.gathering.rows import Rows

NUMBER = 12
LATENTS = {
    "mean": torch.randn(NUMBER, 3, 2, 2, generator=torch.Generator().manual_seed(0)),
    "deviation": torch.arange(NUMBER).float().view(-1, 1, 1, 1),
}
PICTURES = {
    "images": torch.randint(256, (NUMBER, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
    "attributes": torch.arange(2 * NUMBER).view(-1, 2),
}
TOKENS = {"tokens": torch.arange(NUMBER * 4).view(-1, 4)}
STANDARD = {"shift": torch.ones(3), "scale": torch.full((3,), 2.0)}
CODES = {"codebook": torch.randn(6, 2), "grid": torch.tensor([2, 2]), "codes": torch.tensor(6)}


def fill(path: Path, parts, order, *, size=5, whole=None, leading=(NUMBER,), stop: int | None = None) -> Rows:
    """Write rows in an order, from where the writing stopped; stop: after so many writings."""
    made = Rows(path, {name: part[:1] for name, part in parts.items()}, leading, whole)
    for count, start in enumerate(range(made.done, len(order), size)):
        if count == stop:
            return made
        where = order[start : start + size]
        made.write(where, note=[f"row {place}" for place in where], **{n: part[where] for n, part in parts.items()})
    return made


@pytest.mark.parametrize(
    ("parts", "whole", "leading"),
    [
        (PICTURES, {}, (NUMBER,)),
        ({"images": PICTURES["images"]}, {}, (NUMBER,)),
        (LATENTS, STANDARD, (2, NUMBER // 2)),
        (TOKENS, CODES, (NUMBER,)),
    ],
)
@pytest.mark.parametrize("order", [list(range(NUMBER)), [7, 3, 11, 0, 5, 2, 9, 10, 1, 8, 6, 4]])
def test_the_file_is_the_one_that_safetensors_writes(parts, whole, leading, order, tmp_path: Path) -> None:
    """Oracle: `save_file` of the same tensors."""
    expected = {name: part.unflatten(0, leading) for name, part in parts.items()} | whole
    save_file(expected, tmp_path / "expected.safetensors")
    fill(tmp_path / "ours.safetensors", parts, order, whole=whole, leading=leading).finish()
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "expected.safetensors").read_bytes()
    for name, tensor in expected.items():
        read = b"".join(rows.pieces(tmp_path / "ours.safetensors", name))
        assert read == tensor.contiguous().numpy().tobytes()


def test_rows_that_were_never_written_are_left_out(tmp_path: Path) -> None:
    order = [9, 2, 4, 11, 0]
    made = fill(tmp_path / "ours.safetensors", PICTURES, order, size=2, whole=STANDARD)
    made.finish()
    save_file({n: part[sorted(order)] for n, part in PICTURES.items()} | STANDARD, tmp_path / "expected.safetensors")
    assert (tmp_path / "ours.safetensors").read_bytes() == (tmp_path / "expected.safetensors").read_bytes()
    assert list(made.notes()) == [([9, 2], ["row 9", "row 2"]), ([4, 11], ["row 4", "row 11"]), ([0], ["row 0"])]


@pytest.mark.parametrize("damage", ["none", "torn line", "no line end", "lost rows", "finished", "other shape"])
def test_an_interrupted_writing_goes_on_from_what_is_whole(damage: str, tmp_path: Path) -> None:
    """Oracle: a writing that nobody interrupted; the writings of 2 rows each that were kept are counted by hand."""
    path, order = tmp_path / "ours.safetensors", [7, 3, 11, 0, 5, 2, 9, 10, 1, 8, 6, 4]
    made = fill(path, PICTURES, order, size=2, stop=None if damage == "finished" else 3)
    journal, partial = tmp_path / "ours.safetensors.rows", tmp_path / "ours.safetensors.partial"
    like = PICTURES
    if damage == "torn line":
        journal.write_bytes(journal.read_bytes()[:-9])
    elif damage == "no line end":
        journal.write_bytes(journal.read_bytes()[:-1])
    elif damage == "lost rows":
        content = bytearray(partial.read_bytes())
        content[made.places["images"] + 11 * 75] ^= 1
        partial.write_bytes(content)
    elif damage == "finished":
        made.finish()
        assert path.exists() and not rows.is_whole(path)
    elif damage == "other shape":
        like = {**PICTURES, "attributes": torch.arange(NUMBER).view(-1, 1)}
    kept = {"none": 6, "torn line": 4, "no line end": 4, "lost rows": 2, "finished": 12, "other shape": 0}[damage]
    assert Rows(path, {name: part[:1] for name, part in like.items()}, (NUMBER,)).done == kept
    fill(path, like, order, size=2).finish()
    rows.forget(path)
    assert rows.is_whole(path) and [file.name for file in tmp_path.iterdir()] == ["ours.safetensors"]
    for name, tensor in load_file(path).items():
        assert torch.equal(tensor, like[name])


def test_a_file_is_mapped_not_read(tmp_path: Path) -> None:
    """Oracle: memory of the process that is not the file's own pages, before and after; of 256 MiB 1 MiB is indexed."""
    made = Rows(tmp_path / "large.safetensors", {"images": torch.zeros(1, 1 << 20, dtype=torch.uint8)}, (256,))
    made.write([255], images=torch.full((1, 1 << 20), 7, dtype=torch.uint8))
    (tmp_path / "large.safetensors.partial").rename(tmp_path / "large.safetensors")
    before = anonymous()
    images = load_file(tmp_path / "large.safetensors")["images"]
    assert rows.taken(images, torch.tensor([255, 3])).sum() == 7 << 20
    assert anonymous() - before < 32 << 20


def anonymous() -> int:
    """Bytes of this process that are in memory and in no file."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        pytest.skip("there is no /proc here to tell what memory is mapped")
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))


def test_a_small_tensor_goes_to_the_device_whole_and_a_large_one_by_rows(monkeypatch) -> None:
    meta, tensor = torch.device("meta"), torch.arange(8).view(4, 2)
    assert rows.near(tensor, meta).device == meta
    monkeypatch.setattr(rows, "WHOLE_ON_DEVICE", tensor.nbytes - 1)
    assert rows.near(tensor, meta) is tensor
    assert torch.equal(rows.taken(tensor, torch.tensor([2, 0]), torch.tensor([1, 1])), torch.tensor([5, 1]))


def test_what_was_noted_is_not_lost(tmp_path: Path) -> None:
    """Used up is more than was written where something was left out."""
    made = Rows(tmp_path / "ours.safetensors", {name: part[:1] for name, part in TOKENS.items()}, (NUMBER,))
    made.write([3], used=4, note={"said": ["Übung\n\"'"]}, tokens=TOKENS["tokens"][3:4])
    again = Rows(tmp_path / "ours.safetensors", {name: part[:1] for name, part in TOKENS.items()}, (NUMBER,))
    assert again.done == 4 and list(again.notes()) == [([3], {"said": ["Übung\n\"'"]})]
    assert len(json.loads((tmp_path / "ours.safetensors.rows").read_text().splitlines()[1])["sha256"]) == 64


@pytest.mark.gpu
def test_rows_of_a_mapped_tensor_go_to_the_device_of_the_indices(tmp_path: Path) -> None:
    save_file(TOKENS, tmp_path / "tokens.safetensors")
    mapped, which = load_file(tmp_path / "tokens.safetensors")["tokens"], torch.tensor([5, 0], device="cuda")
    assert rows.taken(mapped, which).device == which.device
    assert torch.equal(rows.taken(mapped, which).cpu(), TOKENS["tokens"][[5, 0]])
