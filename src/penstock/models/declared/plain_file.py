"""Opens what others have put beside a `model.toml`.

It need not be a file: to open a pipe waits for its writer, perhaps forever, and a device has no end.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

ALL = -1


def open_plain(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError, also for what is no plain file."""
    return open(path, "rb", opener=_opened)


def read_plain(path: Path, size: int = ALL) -> bytes:
    """The contents of a file, or so many of its first bytes. Raises OSError, as `open_plain` does."""
    with open_plain(path) as file:
        return file.read(size)


def _opened(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no plain file", path)
