"""The lock of a folder: a file that is there while a run writes, and locked as long as the process lives."""

import errno
import fcntl
import os
import warnings
from pathlib import Path

from flowscope.core.files import output_error
from flowscope.errors import OutputError

LOCK = ".flowscope.lock"
TAKEN = (errno.EACCES, errno.EAGAIN)  # what lockf says of a lock that another process holds


def take_lock(folder: Path) -> int:
    """Lock a folder; return the descriptor of its lock file. The lock is gone when the process is."""
    path = folder / LOCK
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise output_error(folder, error) from None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in TAKEN:
                holder = os.read(descriptor, 20).decode(errors="replace")
                os.close(descriptor)
                raise taken_error(folder, holder) from None
            what = f"{folder} cannot be locked ({error.strerror})"
            warnings.warn(f"{what}: see to it that one run writes there at a time", stacklevel=2)
        if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)  # its owner has just ended and removed it


def taken_error(folder: Path, holder: int | str) -> OutputError:
    """What is said of a folder that another run has open."""
    return OutputError(
        f"another run writes to {folder} (process {holder}); expected one run a folder: wait until it has ended, or "
        "choose another"
    )
