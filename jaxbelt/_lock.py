"""One writer a file: a lock beside it that the system takes back when its process ends, however it ends."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jaxbelt.config import InputError

__all__ = ["only_writer"]


@contextlib.contextmanager
def only_writer(path):
    """Hold PATH.lock while writing to `path`; InputError where another process on this machine (or file system) holds it."""
    try:
        import fcntl
    except ImportError:                                        # no such locks on this system
        yield
        return
    path = Path(path)
    lock = path.with_name(path.name + ".lock")
    file = _open(lock, path)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 64, 0).decode(errors="replace").strip()
            raise InputError(f"{path} is being written by another run{f' ({holder})' if holder else ''}: wait for it, or give "
                             "this one another name (case.name) or folder (--out)") from None
        except OSError:                                        # a file system without locks
            yield
            return
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
        try:
            yield
        finally:
            # while the lock is held: whoever opened this file before finds it gone, and opens the next one
            lock.unlink(missing_ok=True)
    finally:
        os.close(file)


def _open(lock: Path, path: Path) -> int:
    """A descriptor of the lock file that is still the one in the folder."""
    while True:
        try:
            file = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error.strerror or error}") from None
        with contextlib.suppress(FileNotFoundError):
            if os.stat(lock).st_ino == os.fstat(file).st_ino:
                return file
        os.close(file)
