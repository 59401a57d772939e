"""Buckets as folders: every path of a build goes through the one layer that knows both.

The bucket is a folder, seen through a backend of epath that knows nothing but gs://: whatever
opens such a path in another way fails.
"""

import errno
import os
import shutil
from pathlib import Path

import pytest
from etils import epath

from clapjax.data import paths, records
from clapjax.data.checking import check
from clapjax.data.edits.merge import merge
from clapjax.data.overlap import read_ids
from clapjax.data.sources import list_clips
from tests.data.build.test_processes import build, folder, tree
from tests.data.layouts import LAYOUTS

assert folder  # a fixture


class Bucket(epath.backend._OsPathBackend):
    """gs://bucket is a folder; renaming a folder in one go is refused, as in a bucket."""

    def __init__(self, root: Path):
        self.root = root

    def _local(self, path) -> str:
        text = os.fspath(path)
        assert text.startswith("gs://"), text
        return os.path.join(self.root, text.removeprefix("gs://"))

    def _remote(self, path: str) -> str:
        return "gs://" + os.path.relpath(path, self.root)

    def glob(self, path):
        return [self._remote(found) for found in super().glob(self._local(path))]

    def walk(self, top, **settings):
        for at, folders, names in os.walk(self._local(top)):
            yield self._remote(at), folders, names

    def replace(self, path, dst):
        assert os.path.isfile(self._local(path)), "folders cannot be renamed in a bucket"
        os.replace(self._local(path), self._local(dst))


def _through(name: str):
    def call(self, path, *rest, **settings):
        return getattr(super(Bucket, self), name)(self._local(path), *rest, **settings)

    return call


for _name in (
    "open",
    "exists",
    "isdir",
    "listdir",
    "makedirs",
    "mkdir",
    "rmtree",
    "remove",
    "stat",
):
    setattr(Bucket, _name, _through(_name))


@pytest.fixture
def bucket(tmp_path, monkeypatch) -> Path:
    """The folder that gs:// is."""
    root = tmp_path / "buckets"
    (root / "b").mkdir(parents=True)
    fake = Bucket(root)
    original = epath.gpath._GPath._backend
    monkeypatch.setattr(
        epath.gpath._GPath,
        "_backend",
        property(lambda self: fake if self._uri_scheme else original.fget(self)),
    )
    return root / "b"


@pytest.mark.parametrize("mode", ["direct", "mixup"])
def test_a_build_in_a_bucket_is_the_build_in_a_folder(folder, bucket, tmp_path, mode):
    build(folder, tmp_path / "d", mode)
    result = build(folder, "gs://b/d", mode)
    ours, theirs = tree(tmp_path / "d"), tree(bucket / "d")
    assert theirs == ours
    assert [file.name for file in bucket.iterdir()] == ["d"]
    again = build(folder, "gs://b/d", mode)
    assert again.reused and again.counts == result.counts and again.rejected == result.rejected
    assert check("gs://b/d") == []


def test_an_interrupted_move_into_a_bucket_goes_on(folder, bucket, tmp_path, monkeypatch):
    moved, original = [], Bucket.replace

    def replace(self, path, dst):
        if len(moved) > 2:
            raise KeyboardInterrupt
        moved.append(dst)
        original(self, path, dst)

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            build(folder, "gs://b/d")
    with pytest.raises(records.RecordsError, match="its build did not finish"):
        records.read_build("gs://b/d")
    build(folder, "gs://b/d")
    build(folder, tmp_path / "d")
    assert tree(bucket / "d") == tree(tmp_path / "d")


def test_a_list_of_what_is_kept_out_may_lie_in_a_bucket(bucket):
    """Fails where it is opened as a file of this machine."""
    (bucket / "ids.txt").write_text("freesound:1\n")
    (bucket / "black.json").write_text('{"FreeSound": ["2"]}')
    (bucket / "esc50.csv").write_text("filename,src_file\n1-2-A-3.wav,3\n")
    names = [f"gs://b/{name}" for name in ("ids.txt", "black.json", "esc50.csv")]
    assert [read_ids(name) for name in names] == [{f"freesound:{n}"} for n in (1, 2, 3)]


def test_merging_into_a_bucket(folder, bucket, tmp_path):
    build(folder, "gs://b/one", splits=("train",))
    build(folder, tmp_path / "two", splits=("test",))
    assert merge("gs://b/out", ["gs://b/one", tmp_path / "two"]) == {"train": 21, "test": 11}
    assert check("gs://b/out") == []


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_source_is_read_from_a_bucket(kind, bucket, tmp_path):
    LAYOUTS[kind](tmp_path / "effects")
    shutil.copytree(tmp_path / "effects", bucket / "effects")
    here, left_out = list_clips(kind, tmp_path / "effects")
    there, also_left_out = list_clips(kind, "gs://b/effects")
    assert also_left_out == left_out
    for ours, theirs in zip(here, there, strict=True):
        assert vars(theirs) | {"read": None} == vars(ours) | {"read": None}
        assert (theirs.read(8000) == ours.read(8000)).all()


def test_what_a_bucket_lacks(bucket):
    with pytest.raises(ValueError, match="gs://b/none: no such folder"):
        list_clips("folder", "gs://b/none")
    (bucket / "broken.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match="gs://b/broken.wav: cannot be decoded"):
        paths.read_sound(paths.as_path("gs://b/broken.wav"), 8000)
    with pytest.raises(ValueError, match="gs://b/none.wav: cannot be read"):
        paths.read_sound(paths.as_path("gs://b/none.wav"), 8000)


@pytest.mark.parametrize("name", ["ftp://host/d", "http://host/d", "gcs://b/d"])
def test_an_unknown_scheme_is_a_clear_error(name, tmp_path):
    with pytest.raises(ValueError, match=r"is not known; use a folder of this machine, gs://, s3:"):
        paths.as_path(name)
    with pytest.raises(ValueError, match="is not known"):
        list_clips("folder", name)
    with pytest.raises(ValueError, match="is not known"):
        records.read_build(name)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    paths.write_text(tmp_path / "a", "old")
    with pytest.raises(UnicodeEncodeError):
        paths.write_text(tmp_path / "a", "new \ud800")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]


def test_a_library_that_finds_the_disk_full_is_named_as_the_system_names_it(tmp_path):
    """Also within another `naming`; any other error comes through as it is."""
    said = f"RESOURCE_EXHAUSTED: write failed: {os.strerror(errno.ENOSPC)}"
    outer, inner = paths.naming(tmp_path.parent), paths.naming(tmp_path)
    full = pytest.raises(OSError, match=f"bytes are free: '{tmp_path}'")
    with full as caught, outer, inner:
        raise RuntimeError(said)
    assert caught.value.errno == errno.ENOSPC
    outer, inner = paths.naming(tmp_path.parent), paths.naming(tmp_path)
    with pytest.raises(KeyError, match="name"), outer, inner:
        raise KeyError("name")


def test_a_folder_that_cannot_be_written_to_is_named_not_the_lock(tmp_path, monkeypatch):
    def read_only(path, *_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), os.fspath(path))

    monkeypatch.setattr(Path, "open", read_only)
    with pytest.raises(OSError, match="Read-only") as caught, paths.locked(tmp_path / "d.lock"):
        pass
    assert caught.value.filename == str(tmp_path)
