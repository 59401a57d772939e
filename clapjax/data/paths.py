"""Folders of this machine and of buckets: what differs between them is here and nowhere else.

A path of this machine is a `pathlib.Path`; one of a bucket ("gs://bucket/folder") is etils' `epath`
path, which has the same methods, over gcsfs or s3fs. In a bucket nothing is renamed in one go, but
an object appears whole or not at all, and there are no folders but those that objects are in.
"""

import contextlib
import errno
import functools
import importlib.util
import io
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path, PurePath

SCHEMES = {"gs": "gcsfs", "s3": "s3fs"}  # and the client that each needs
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, or a limit of what may be written
NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF)


def as_path(name: str | os.PathLike) -> Path:
    """The path of a folder or file, here or in a bucket.

    Raises:
      ValueError: a scheme that is not known, or whose client is not installed; no bucket is named.
    """
    scheme, found, place = os.fspath(name).partition("://")
    if not found:
        return Path(name)
    if scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        raise ValueError(f"{name}: {scheme}:// is not known; use a folder of this machine, {known}")
    if not place.strip("/"):
        raise ValueError(f"{name}: names no bucket; write {scheme}://BUCKET/FOLDER")
    _set_up_clients()
    if importlib.util.find_spec(SCHEMES[scheme]) is None:
        raise ValueError(f"{name}: needs {SCHEMES[scheme]}; pip install 'clapjax[buckets]'")
    from etils import epath

    return epath.Path(name)


@functools.cache
def _set_up_clients() -> None:
    """Lets all of epath (ours, TFDS's and Orbax's) reach buckets in one way, by fsspec's clients.

    TensorFlow's own knows no s3://, and cannot be pointed at another server than Google's. They
    must not remember what was in a folder, for other processes write there too.
    """
    import fsspec.config
    from etils.epath import gpath

    for client in ("fsspec", "gcsfs"):  # they log the stack of what they raise
        logging.getLogger(client).setLevel(logging.CRITICAL)
    os.environ["EPATH_USE_TF"] = "false"
    gpath._is_tf_installed.cache_clear()  # it may have been asked before
    # gcsfs asks Google of what kind a bucket is, with credentials that a test server has not.
    if "STORAGE_EMULATOR_HOST" in os.environ:
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    for client in ("gcs", "s3"):
        fsspec.config.conf.setdefault(client, {}).setdefault("use_listings_cache", False)


def need_local(name: str | os.PathLike, what: str) -> Path:
    """The path of what can only be on this machine.

    Raises:
      ValueError: it is in a bucket; `what` it is that cannot be there.
    """
    path = as_path(name)
    if not is_local(path):
        raise ValueError(f"{name}: {what} cannot be in a bucket; name a place on this machine")
    return path


def same_place(name: str | os.PathLike) -> str:
    """A name for a place by which it is known again: links of this machine are followed."""
    path = as_path(name)
    return os.path.realpath(path) if is_local(path) else os.fspath(path)


def last_name(name: str | os.PathLike) -> str:
    """What a folder is called, also where it is named as ".", or with a slash at its end."""
    path = as_path(name)
    return (path.resolve() if is_local(path) else path).name


def is_local(path: PurePath) -> bool:
    """Whether `os` and C++ libraries can open it."""
    return isinstance(path, Path)


@contextlib.contextmanager
def local_file(path: str | os.PathLike) -> Iterator[str]:
    """The name of a file of this machine to read: itself, or a copy that goes afterwards."""
    path = as_path(path)
    if is_local(path):
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, path.name)
        with path.open("rb") as source, copy.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        yield os.fspath(copy)


@contextlib.contextmanager
def local_model(path: str | os.PathLike) -> Iterator[str]:
    """A folder or file of this machine to read: itself, or a copy that goes afterwards."""
    if "://" not in os.fspath(path) or is_local(found := as_path(path)):  # or an id of a hub
        yield os.fspath(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, found.name)
        if found.is_dir():
            copy_folder(found, copy)
        elif found.is_file():
            copy.write_bytes(found.read_bytes())
        else:
            raise FileNotFoundError(f"{path}: no such file or folder")
        yield os.fspath(copy)


def copy_folder(source: Path, target: Path) -> None:
    """Copies the files of a folder, and those below it, from or to a bucket or on this machine."""
    target.mkdir(parents=True, exist_ok=True)
    for below, file in walk_files(source):
        copy = target / below
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system that name no file, as that of a full disk, name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise
    except Exception as error:  # of a library that has its own
        if found := no_room(error, path):
            raise found from error
        raise


def no_room(error: BaseException, path: Path) -> OSError | None:
    """That there was no room below `path`, if that is what a library says with its error.

    TensorStore and TensorFlow have errors of their own, with the system's in their text.
    """
    cause: BaseException | None = error
    while cause is not None:
        for number in FULL:
            if getattr(cause, "errno", None) == number or os.strerror(number) in str(cause):
                why = getattr(cause, "strerror", None) or os.strerror(number)
                if is_local(path):
                    above = (path, *path.absolute().parents)
                    held = next(folder for folder in above if folder.exists())
                    why += f", {shutil.disk_usage(held).free:,} bytes are free"
                return OSError(number, why, getattr(cause, "filename", None) or os.fspath(path))
        cause = cause.__cause__ or cause.__context__
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps a file at `path` locked, which goes afterwards; a process that ends lets it go too.

    Where a file system knows no locks, and in a bucket, nothing is locked.

    Raises:
      BlockingIOError: another process has it.
    """
    if not is_local(path):
        yield
        return
    import fcntl  # of POSIX

    try:
        file = path.open("w")
    except OSError as error:  # whoever reads it knows the folder, not the lock
        error.filename = os.fspath(path.parent)
        raise
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        if not path.exists() or not os.path.samestat(path.stat(), os.fstat(file.fileno())):
            raise BlockingIOError(errno.EWOULDBLOCK, "just let go", os.fspath(path))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def local_folder(beside: PurePath, name: str) -> Iterator[Path]:
    """An empty folder of this machine, gone afterwards; on the disk of `beside` if that is here."""
    if is_local(beside):
        folder = beside / f"{name}.{os.getpid()}.tmp"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    else:
        folder = Path(tempfile.mkdtemp())
    try:
        with naming(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_file(file: Path, path: Path) -> None:
    """Moves a finished local file to its place, where it appears whole."""
    if is_local(path):
        os.replace(file, path)
    else:
        with file.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
        file.unlink()


def put_folder(folder: Path, path: Path) -> None:
    """Puts the files of a finished local folder, which has no folders in it, in their place."""
    path.mkdir(exist_ok=True)
    for file in sorted(folder.iterdir()):
        put_file(file, path / file.name)


@contextlib.contextmanager
def new_file(path: Path, mode: str = "w") -> Iterator[io.IOBase]:
    """A file to write, UTF-8 text or with "wb" bytes; it appears whole when the block ends."""
    folder = path.parent if is_local(path) else Path(tempfile.gettempdir())
    temporary = folder / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with naming(path):
            with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            put_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a file, all or nothing."""
    with new_file(path) as file:
        file.write(text)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file, all or nothing."""
    with new_file(path, "wb") as file:
        file.write(data)


def move_folder(source: Path, target: Path, last: str = "") -> None:
    """Gives a finished folder its name, in place of an empty one.

    In a bucket file by file, that named `last` last: what looks for it finds a whole folder. Moved
    again after an interruption, it goes on.
    """
    if is_local(target):
        if target.exists():
            target.rmdir()
        os.replace(source, target)
        return
    for below, file in walk_files(source):
        if below != last:
            move_file(file, target / below)
    if last:
        move_file(source / last, target / last)
    remove_folder(source)


def move_file(source: Path, target: Path) -> None:
    """Gives a file another name, in place of an older one; both here, or both in a bucket."""
    if is_local(target):
        os.replace(source, target)
        return
    # By epath it would be looked whether the folder of `target` is there, which is in no bucket.
    files = _client(source)
    files.copy(os.fspath(source), os.fspath(target))
    files.rm_file(os.fspath(source))


def _client(path: Path):
    """What fsspec has for a bucket."""
    import fsspec

    return fsspec.core.url_to_fs(os.fspath(path))[0]


def remove_folder(folder: Path) -> None:
    """Removes a folder, if there is one, with all that is in it."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif found := [os.fspath(file) for _, file in walk_files(folder)]:
        _client(folder).rm(found)


def read_text(file: Path, encoding: str = "utf-8") -> str:
    """The text of a file, its line ends as they are.

    Raises:
      OSError: no such file, or it cannot be read.
      UnicodeDecodeError: it is not text in this encoding.
    """
    return file.read_bytes().decode(encoding)


def open_text(file: Path, encoding: str = "utf-8") -> io.TextIOBase:
    """A text file, opened for the csv module; raises as `read_text` does."""
    if is_local(file):
        return file.open(newline="", encoding=encoding)
    return io.TextIOWrapper(io.BytesIO(file.read_bytes()), newline="", encoding=encoding)


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """`os.walk` with paths, sorted; links are followed, each folder is entered once.

    Raises:
      ValueError: a folder cannot be listed.
    """

    def refuse(error: OSError):
        if not isinstance(error, FileNotFoundError):
            raise ValueError(
                f"{error.filename}: cannot be listed ({error.strerror or error})"
            ) from error

    if not is_local(root):
        yield from _walk_bucket(root)
        return
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        place = os.path.realpath(folder)
        if place in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(place)
        folders.sort()
        yield Path(folder), folders, sorted(names)


def _walk_bucket(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """By the client itself: etils' way asks it for what s3fs does not know."""
    path = os.fspath(root).partition("://")[2].rstrip("/")
    folders, names = [], []
    with contextlib.suppress(FileNotFoundError):
        for one in _client(root).ls(path, detail=True):
            place = one["name"].rstrip("/")
            if place != path:  # else an object that stands for the folder itself
                kind = folders if one["type"] == "directory" else names
                kind.append(place.rpartition("/")[2])
        yield root, sorted(folders), sorted(names)
        for name in sorted(folders):
            yield from _walk_bucket(root / name)


def is_file(path: Path) -> bool:
    """Whether there is a file; a name that no file can have is that of none."""
    try:
        return path.is_file()
    except OSError:  # too long
        return False


def walk_files(root: Path) -> Iterator[tuple[str, Path]]:
    """Yields (place below `root`, with slashes; path) of all files below it; see `walk`."""
    for folder, _, names in walk(root):
        above = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
        for name in names:
            yield above + name, folder / name
