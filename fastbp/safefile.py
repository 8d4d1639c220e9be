"""A file is written whole or not at all: beside the old one, synced, read back, and put in its place in one step.

Saving never touches the old file. Until the last step the new one is called `.<name>.<random>.tmp`, and its writer
holds a lock on it (`flock`) that the system drops when the writer dies, however it dies. A file with such a name and
no lock is rubbish, and the next save to the same path, or `tidy`, removes it. The lock tells this better than a
process number in the name: those are used again, and mean nothing in another container.
"""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator

from fastbp.errors import ModelFileError


class FileSystem:
    """Every request to the operating system in this module, so that tests can make each one fail (POSIX)."""

    def resolve(self, path: str) -> str:
        return os.path.realpath(path)

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags, 0o600)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def listdir(self, folder: str) -> list[str]:
        return os.listdir(folder)

    def lock(self, fd: int) -> None:
        import fcntl  # here, so that the rest of fastbp can be imported where there is none

        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def read(self, fd: int, count: int, offset: int) -> bytes:
        return os.pread(fd, count, offset)

    def write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data)

    def chmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def replace(self, source: str, target: str) -> None:
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def close(self, fd: int) -> None:
        os.close(fd)


_files = FileSystem()

# What to do about an error of the system while a file is being written.
_ADVICE = {
    errno.ENOSPC: "make room, or save in another folder",
    errno.EDQUOT: "make room, or save in another folder",
    errno.EACCES: "save where you may write, or change the permissions",
    errno.EPERM: "save where you may write, or change the permissions",
    errno.EROFS: "save where you may write",
    errno.EIO: "the disk may be failing: save on another one",
    errno.ENOENT: "make the folder first",
    errno.ENOTDIR: "what should be its folder is a file; save in another folder",
    errno.EISDIR: "name a file in it",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def replace(path: str | os.PathLike[str], blob: bytes) -> None:
    """Make `blob` the contents of the file `path`, in one step that happens or does not.

    Until that step the old file stands untouched; if anything fails it stays, and the new one is removed. Only the
    sync of the folder comes after that step. If it fails, an OSError is raised although the new file is complete and
    in place, because a power failure might still bring the old one back.

    A symbolic link is followed, and stays. A new file has mode 0600; one that replaces another takes over its
    permissions, but not its owner or hard links. A file that may not be written is not replaced.

    Raises ModelFileError if `path` is a device or the like, and the system's OSError (FileNotFoundError,
    PermissionError, ...) with `path` as its file name and advice in its text.
    """
    with naming(path, "cannot save to", _ADVICE) as name:
        _replace_contents(_files.resolve(name), blob)


def tidy(path: str | os.PathLike[str]) -> None:
    """Remove what killed saves to `path` left behind; never an error, for the next save tries again."""
    with contextlib.suppress(OSError):
        folder, name = os.path.split(_files.resolve(os.fsdecode(path)))
        _remove_strays(folder, name)


def check(path: str | os.PathLike[str]) -> None:
    """Raise what `replace` would raise because of where `path` leads or of permissions, without writing anything."""
    with naming(path, "cannot save to", _ADVICE) as name:
        target = _files.resolve(name)
        folder = os.path.dirname(target)
        _close(_files.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        _mode_of(target)
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


class Source:
    """A regular file open for reading: its size in bytes, and pieces of it."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self.size = fd, size

    def read(self, count: int, offset: int) -> bytes:
        """`count` bytes from `offset` on; ModelFileError if they are no longer there."""
        return _read_fully(self._fd, count, offset)


@contextlib.contextmanager
def reading(name: str) -> Iterator[Source]:
    """Open a file for reading. Raises OSError, or ModelFileError if it is a device, a pipe or the like."""
    fd = _files.open(name, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO is refused, not waited for
    try:
        status = _files.fstat(fd)
        _require_regular(status)
        yield Source(fd, status.st_size)
    finally:
        _close(fd)


@contextlib.contextmanager
def naming(path: str | os.PathLike[str], failed: str, advice: dict[int, str] | None = None) -> Iterator[str]:
    """Yield the path as text, and let every error name it (and not a temporary file, or nothing)."""
    name = os.fsdecode(path)
    try:
        yield name
    except ModelFileError as error:
        raise type(error)(f"{failed} {name!r}: {error}") from None
    except OSError as error:
        if error.errno is None:
            raise
        what_to_do = (advice or {}).get(error.errno)
        text = f"{error.strerror}; {what_to_do}" if what_to_do else error.strerror
        raise OSError(error.errno, text, name) from error  # Python picks the subclass by errno


def _require_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(status.st_mode):
        raise ModelFileError("it is no regular file, but a device, a pipe or the like")


def _read_fully(fd: int, count: int, offset: int) -> bytes:
    """`count` bytes from `offset` on. One call may give fewer, and never gives more than 2 GiB."""
    pieces = []
    while count:
        piece = _files.read(fd, count, offset)
        if not piece:
            raise ModelFileError("it became shorter while it was being read")
        pieces.append(piece)
        count -= len(piece)
        offset += len(piece)
    return b"".join(pieces)


def _write_fully(fd: int, blob: bytes) -> None:
    view = memoryview(blob)
    while view:
        written = _files.write(fd, view)
        if not written:
            raise OSError(errno.EIO, "the system wrote nothing, and did not say why")
        view = view[written:]


def _replace_contents(target: str, blob: bytes) -> None:
    folder, name = os.path.split(target)
    folder_fd = _files.open(folder, os.O_RDONLY | os.O_DIRECTORY)  # now: later, only its sync can still fail
    try:
        mode = _mode_of(target)
        _remove_strays(folder, name)
        fd, temporary = _create_beside(folder, name)
        try:
            _write_fully(fd, blob)
            if mode is not None:
                _files.chmod(fd, mode)
            _files.fsync(fd)
            _check_written(fd, blob)
            _files.replace(temporary, target)
        except BaseException:  # Ctrl-C, too
            _try_unlink(temporary)
            raise
        finally:
            _close(fd)  # this drops the lock: not before the file has its name, or is gone
        _sync_folder(folder_fd)
    finally:
        _close(folder_fd)


def _mode_of(target: str) -> int | None:
    """The permissions of the file that will be replaced; None if there is none.

    It is opened for writing, though nothing is written, so that a model somebody write-protected is not
    replaced, and neither is /dev/null.
    """
    try:
        fd = _files.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        status = _files.fstat(fd)
        _require_regular(status)
        return stat.S_IMODE(status.st_mode) & 0o777
    finally:
        _close(fd)


def _stem(name: str) -> str:
    """What temporary files for `name` begin with; cut, because `name` may be as long as a name can be."""
    return f".{name[:48]}."


def _create_beside(folder: str, name: str) -> tuple[int, str]:
    """A new file in `folder`, with mode 0600, open and locked; and its path."""
    for _ in range(100):
        # secrets, not random: a save must not move the stream that shuffles the next epoch
        path = os.path.join(folder, f"{_stem(name)}{secrets.token_hex(8)}.tmp")
        fd = _files.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            # Before we had the lock, another save may have thought the file a dead one's and removed it.
            if _lock(fd) and _files.fstat(fd).st_nlink:
                return fd, path
        except BaseException:
            _try_unlink(path)
            _close(fd)
            raise
        _close(fd)
    raise BlockingIOError(errno.EAGAIN, "other processes keep removing the new file")


def _lock(fd: int) -> bool:
    """Take the lock; False if somebody else has it. A file system without locks is used without."""
    try:
        _files.lock(fd)
    except BlockingIOError:
        return False
    except OSError:  # then nobody can lock a stray either, and none is removed
        return True
    return True


def _remove_strays(folder: str, name: str) -> None:
    """Remove what killed saves to this path left behind. Where that fails, saving may still succeed."""
    pattern = re.compile(re.escape(_stem(name)) + r"[0-9a-f]{16}\.tmp")
    with contextlib.suppress(OSError):
        for entry in _files.listdir(folder):
            if pattern.fullmatch(entry):
                _remove_if_dead(os.path.join(folder, entry))


def _remove_if_dead(path: str) -> None:
    with contextlib.suppress(OSError):  # a live save has it, has just finished, or it is somebody else's
        fd = _files.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            _files.lock(fd)
            _files.unlink(path)
        finally:
            _close(fd)


def _check_written(fd: int, blob: bytes) -> None:
    """Read the file back, a piece at a time, and compare."""
    step = 2**20
    for offset in range(0, len(blob), step):
        piece = blob[offset : offset + step]  # bytes, not a memoryview, which compares one byte at a time
        if _read_fully(fd, len(piece), offset) != piece:
            raise OSError(errno.EIO, "what was read back is not what was written; the disk may be failing")


def _sync_folder(fd: int) -> None:
    try:
        _files.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # file systems that cannot sync a folder say this (FUSE, CIFS)
            what = f"{error.strerror} (the new file is in place, but a power failure may bring the old one back)"
            raise OSError(error.errno, what) from error


def _try_unlink(path: str) -> None:
    with contextlib.suppress(OSError):  # the error that led here is to be reported; the next save tidies up
        _files.unlink(path)


def _close(fd: int) -> None:
    with contextlib.suppress(OSError):  # what was written has been synced, and what was read gets checked
        _files.close(fd)
