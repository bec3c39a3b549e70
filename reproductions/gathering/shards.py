"""Rows of WebDataset shards (.tar), read one shard after the other from where they lie: neither copied nor held."""

import json
import re
import tarfile
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

CAPTION_COLUMNS = ("caption", "captions", "text", "name", "sentence", "label")
TEXT, NUMBER, JSON = frozenset({"txt", "text", "transcript"}), frozenset({"cls"}), frozenset({"json"})
PICTURES = frozenset({"png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "jp2"})
NAMED = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")
BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
LOOKED_AT = 5
ANY = "*"
"""Stands for the suffix of a picture that is the only one of its sample."""


def shards(pattern: Path) -> list[Path]:
    """The files of a pattern such as `shards/{00000..00009}.tar`.

    Raises FileNotFoundError, naming the first ones that are missing, ValueError where the numbers fall.
    """
    found = BRACES.search(pattern.name)
    assert found is not None
    first, last = found.groups()
    if int(first) > int(last):
        raise ValueError(f"data: {pattern.name}: {first} stands before {last}; write the smaller number first")
    names = [BRACES.sub(f"{number:0{len(first)}}", pattern.name) for number in range(int(first), int(last) + 1)]
    missing = [name for name in names if not (pattern.parent / name).is_file()]
    if missing:
        listed = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise FileNotFoundError(f"data: {pattern}: {len(missing)} of {len(names)} shards are not there: {listed}")
    return [pattern.parent / name for name in names]


class Shards:
    """Rows whose columns are `image`; `text`, of a file or of the JSON; `label`; and other files by their suffix.

    The one picture of a sample is its `image`, whatever its suffix; of several it is that of the first suffix.
    features: type of each column, as `datasets` has them. What is counted here are heads of files, not their content.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = [file.resolve() for file in files]
        self.ends = list(accumulate(_count(file, file.stat().st_mtime_ns) for file in self.files))
        self.columns = self._columns()

    def __len__(self) -> int:
        return self.ends[-1]

    @property
    def features(self) -> dict[str, Any]:
        """Type of each column."""
        return {name: kind for name, (_, kind) in self.columns.items()}

    def at(self, which: Iterable[int], names: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Columns of the rows at indices that rise: pictures as {"bytes", "path"}, and None for what is not there."""
        wanted = iter(which)
        index = next(wanted, None)
        while index is not None:
            shard = bisect_right(self.ends, index)
            start = self.ends[shard - 1] if shard else 0
            with _opened(self.files[shard]) as tar:
                for number, members in enumerate(_samples_of(tar), start):
                    if number == index:
                        yield {name: self._cell(tar, members, shard, name) for name in names}
                        index = next(wanted, None)
                        if index is None or index >= self.ends[shard]:
                            break

    def _cell(self, tar: tarfile.TarFile, members: Mapping[str, tarfile.TarInfo], shard: int, name: str) -> Any:
        suffix, _, key = self.columns[name][0].partition(":")
        if suffix == ANY:
            suffix = next(filter(_is_picture, members), ANY)
        if suffix not in members:
            return None
        content = _content(tar, members[suffix])
        if _is_picture(suffix):
            return {"bytes": content, "path": str(self.files[shard] / members[suffix].name)}
        return _read(suffix, content, key)

    def _columns(self) -> dict[str, tuple[str, Any]]:
        """By name: which suffix a column comes of (`json:key` of the JSON), and its type."""
        from datasets import Image, Value  # type: ignore[import-untyped]

        found: dict[str, Any] = {}
        alone = True
        with _opened(self.files[bisect_right(self.ends, 0) % len(self.files)]) as tar:
            for members in islice(_samples_of(tar), LOOKED_AT):
                alone = alone and sum(map(_is_picture, members)) < 2
                for suffix, member in members.items():
                    kind = suffix.rsplit(".", 1)[-1]
                    if kind in JSON:
                        found = {**dict(_keys(suffix, _read(suffix, _content(tar, member), ""))), **found}
                    elif _is_picture(suffix):
                        found[suffix] = Image()
                    elif kind in TEXT | NUMBER:
                        found[suffix] = Value("string" if kind in TEXT else "int64")
        rest = {source: kind for source, kind in found.items() if not isinstance(kind, Image)}
        if alone and len(rest) < len(found):
            found = {ANY: Image(), **rest}
        spoken = ["txt", *(f"json:{name}" for name in CAPTION_COLUMNS)]
        usual = {
            "image": next((suffix for suffix, kind in found.items() if isinstance(kind, Image)), None),
            "text": next((source for source in spoken if source in found), None),
            "label": "cls" if "cls" in found else None,
        }
        renamed = {source: name for name, source in usual.items() if source is not None and name not in found}
        return {renamed.get(source, source.replace(":", ".")): (source, found[source]) for source in (*renamed, *found)}


def _is_picture(suffix: str) -> bool:
    return suffix.rsplit(".", 1)[-1] in PICTURES


def _keys(suffix: str, content: Any) -> Iterator[tuple[str, Any]]:
    """What in a JSON object may be a column: text, several texts and whole numbers, with their types."""
    from datasets import Value

    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, str):
            yield f"{suffix}:{key}", Value("string")
        elif isinstance(value, list) and all(isinstance(each, str) for each in value):
            yield f"{suffix}:{key}", [Value("string")]
        elif isinstance(value, int):
            yield f"{suffix}:{key}", Value("int64")


def _read(suffix: str, content: bytes, key: str) -> Any:
    """What a file says: text, a number, or what a JSON object has at `key` (all of it: ""); None where it is broken."""
    kind = suffix.rsplit(".", 1)[-1]
    try:
        if kind in JSON:
            found = json.loads(content)
            return found.get(key) if key and isinstance(found, dict) else found
        return int(content) if kind in NUMBER else content.decode()
    except ValueError:
        return None


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, "r:")
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"data: {file} cannot be read: {error}") from error


@cache
def _count(file: Path, changed: int) -> int:
    """Samples of a shard as it was written at that time."""
    with _opened(file) as tar:
        return sum(1 for _ in _samples_of(tar))


def _samples_of(tar: tarfile.TarFile) -> Iterator[dict[str, tarfile.TarInfo]]:
    """Files of each sample, those that stand together under one name, by their suffix."""
    key, sample = None, dict[str, tarfile.TarInfo]()
    for member in _members(tar):
        named = NAMED.fullmatch(member.name)
        if named is None or not member.isfile():
            continue
        if sample and named[1] != key:
            yield sample
            sample = {}
        key = named[1]
        sample[named[2].lower()] = member
    if sample:
        yield sample


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    try:
        yield from tar
    except (OSError, tarfile.TarError) as error:
        raise ValueError(f"data: {tar.name!s} cannot be read: {error}") from error


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    assert opened is not None
    return opened.read()
