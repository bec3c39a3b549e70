"""A disk that is full, told from other failures and said in words."""

import errno
import shutil
from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SAID = ("No space left", "quota exceeded", "File too large", "file write failed", "unexpected pos", "iostream error")
LITTLE = 1 << 20


class NoRoom(OSError):
    """Nothing more could be written; the message says where, how much is free and what is needed."""


def is_full(error: BaseException, folder: Path) -> bool:
    """Whether `error`, raised while `folder` was written to, comes of a full disk, quota or limit.

    Libraries that write by other means than Python's raise errors of their own, without a number.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return any(text in str(error) for text in SAID) or (
        not isinstance(error, ValueError | TypeError | ArithmeticError) and free(folder) < LITTLE
    )


def free(folder: Path) -> int:
    """Bytes that may still be written where `folder` is."""
    return shutil.disk_usage(folder).free


def size(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def said(number: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"
