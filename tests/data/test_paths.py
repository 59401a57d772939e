"""Buckets as folders: every path of a build goes through the one layer that knows both.

The buckets are those of servers that the tests start.
"""

import errno
import io
import os
import pickle
from pathlib import Path

import aiohttp
import botocore.exceptions
import gcsfs.retry
import numpy as np
import pytest
import soundfile
from s3fs.errors import translate_boto_error

from clapjax.audio.files import AudioError, read_audio
from clapjax.data import paths, recordings, records
from clapjax.data.bucket_errors import BucketError, telling_of
from clapjax.data.checking import check
from clapjax.data.edits.merge import merge
from clapjax.data.overlap import read_ids
from clapjax.data.paths import as_path, copy_folder
from clapjax.data.sources import list_clips
from tests.data.build.test_processes import build, folder, tree
from tests.data.layouts import LAYOUTS

assert folder  # a fixture


@pytest.fixture
def bucket(bucket_of):
    """An empty folder in a bucket."""
    return as_path(bucket_of("gs"))


def _here(place, tmp_path: Path) -> dict[str, str]:
    """`tree` of a folder in a bucket."""
    copy_folder(place, tmp_path / "copy")
    return tree(tmp_path / "copy")


@pytest.mark.parametrize(("mode", "kind"), [("direct", "gs"), ("mixup", "s3")])
def test_a_build_in_a_bucket_is_the_build_in_a_folder(folder, bucket_of, tmp_path, mode, kind):
    bucket = as_path(bucket_of(kind))
    build(folder, tmp_path / "d", mode)
    result = build(folder, bucket / "d", mode)
    assert _here(bucket / "d", tmp_path) == tree(tmp_path / "d")
    assert [file.name for file in bucket.iterdir()] == ["d"]
    again = build(folder, bucket / "d", mode)
    assert again.reused and again.counts == result.counts and again.rejected == result.rejected
    assert check(bucket / "d") == []


def test_an_interrupted_move_into_a_bucket_goes_on(folder, bucket, tmp_path, monkeypatch):
    moved, original = [], paths.move_file

    def move(source, target):
        if len(moved) > 2:
            raise KeyboardInterrupt
        moved.append(target)
        original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(paths, "move_file", move)
        with pytest.raises(KeyboardInterrupt):
            build(folder, bucket / "d")
    with pytest.raises(records.RecordsError, match="its build did not finish"):
        records.read_build(bucket / "d")
    build(folder, bucket / "d")
    build(folder, tmp_path / "d")
    assert _here(bucket / "d", tmp_path) == tree(tmp_path / "d")


def test_a_list_of_what_is_kept_out_may_lie_in_a_bucket(bucket):
    """Fails where it is opened as a file of this machine."""
    (bucket / "ids.txt").write_text("freesound:1\n")
    (bucket / "black.json").write_text('{"FreeSound": ["2"]}')
    (bucket / "esc50.csv").write_text("filename,src_file\n1-2-A-3.wav,3\n")
    names = [f"{bucket}/{name}" for name in ("ids.txt", "black.json", "esc50.csv")]
    assert [read_ids(name) for name in names] == [{f"freesound:{n}"} for n in (1, 2, 3)]


def test_merging_into_a_bucket(folder, bucket, tmp_path):
    build(folder, bucket / "one", splits=("train",))
    build(folder, tmp_path / "two", splits=("test",))
    assert merge(bucket / "out", [bucket / "one", tmp_path / "two"]) == {"train": 21, "test": 11}
    assert check(bucket / "out") == []


@pytest.mark.parametrize("kind", LAYOUTS)
def test_every_source_is_read_from_a_bucket(kind, bucket, tmp_path):
    LAYOUTS[kind](tmp_path / "effects")
    copy_folder(tmp_path / "effects", bucket / "effects")
    here, left_out = list_clips(kind, tmp_path / "effects")
    there, also_left_out = list_clips(kind, bucket / "effects")
    assert also_left_out == left_out
    for ours, theirs in zip(here, there, strict=True):
        assert vars(theirs) | {"read": None} == vars(ours) | {"read": None}
        assert (theirs.read(8000) == ours.read(8000)).all()


def test_what_a_bucket_lacks(bucket):
    with pytest.raises(ValueError, match=f"{bucket}/none: no such folder"):
        list_clips("folder", bucket / "none")
    (bucket / "broken.wav").write_bytes(b"no sound")
    with pytest.raises(ValueError, match=f"{bucket}/broken.wav: cannot be decoded"):
        recordings.read_recording(bucket / "broken.wav", 8000)
    with pytest.raises(ValueError, match=f"{bucket}/none.wav: cannot be read"):
        recordings.read_recording(bucket / "none.wav", 8000)


def _of_s3(code: int, name: str) -> Exception:
    """What s3fs makes of an answer."""
    answer = {"Error": {"Code": name}, "ResponseMetadata": {"HTTPStatusCode": code}}
    return translate_boto_error(botocore.exceptions.ClientError(answer, "GetObject"))


def _forbidden():
    gcsfs.retry.validate_response(403, b'{"error": {"message": "you may not"}}', "b/bucket/o", None)


# What clients of buckets raise, and whether it may be otherwise another time.
TROUBLES = (
    (gcsfs.retry.HttpError({"code": 503, "message": "busy"}), True),
    (gcsfs.retry.HttpError({"code": 401, "message": "who are you?"}), False),
    (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"), True),
    (botocore.exceptions.NoCredentialsError(), False),
    (_of_s3(503, "SlowDown"), True),
    (_of_s3(500, "InternalError"), True),
    (_of_s3(403, "AccessDenied"), False),
    (aiohttp.ServerDisconnectedError(), True),
    (aiohttp.ClientPayloadError("not all came"), True),
    (TimeoutError("too slow"), True),
    (None, False),  # of gcsfs an OSError of two lines
)


def _raise(error: Exception | None):
    """As the client does: an error of another kind comes from a module of its own."""
    if error is None:
        _forbidden()
    code = compile("raise error", "s3fs/core.py", "exec")
    exec(code, {"__name__": "s3fs.core", "error": error})


@pytest.mark.parametrize(("error", "passes"), TROUBLES)
def test_what_a_client_of_buckets_raises_is_one_line_that_names_the_place(error, passes):
    with pytest.raises(BucketError) as found, telling_of(["gs://b/d"]):
        _raise(error)
    said = str(found.value)
    assert said.startswith("gs://b/d: ") and "\n" not in said
    assert ("try again later" in said) is passes
    assert pickle.loads(pickle.dumps(found.value)).passes is passes  # from a process of a build


def test_other_errors_stay_what_they_are():
    for error in (ValueError("a"), OSError(errno.ENOSPC, "b"), ConnectionResetError("c")):
        with pytest.raises(type(error)) as found, telling_of(["gs://b/d"]):
            raise error
        assert found.value is error


class _Failing(io.BytesIO):
    """A file in a bucket of which reading fails behind a place."""

    def __init__(self, data: bytes, place: int, error: Exception | None):
        super().__init__(data)
        self.place, self.error = place, error

    def __fspath__(self):
        return "s3://bucket/a.wav"

    def open(self, mode):
        return self

    def read_bytes(self):
        return self.read()

    def readinto(self, buffer):
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def read(self, size=-1):
        if size < 0 or self.tell() + size > self.place:
            _raise(self.error)
        return super().read(size)


@pytest.mark.parametrize("seconds", [None, 0.5])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
def test_an_outage_leaves_no_recording_out_and_cuts_none(seconds, share):
    """Where the bucket says no to one, that is its own fault."""
    stream, samples = io.BytesIO(), np.random.default_rng(0).normal(0, 0.1, 16_000)
    soundfile.write(stream, samples, 8000, format="WAV")
    for error, passes in TROUBLES:
        file = _Failing(stream.getvalue(), int(share * stream.tell()), error)
        kind = BucketError if passes else AudioError
        with pytest.raises(kind, match="s3://bucket/a.wav"):
            recordings.read_recording(file, 8000, 1.4 if seconds else 0.0, seconds)
    whole = _Failing(stream.getvalue(), 10**9, None)
    whole.read_bytes = stream.getvalue
    np.testing.assert_array_equal(
        recordings.read_recording(whole, 8000, 1.4 if seconds else 0.0, seconds),
        read_audio(stream.getvalue(), 8000, start=1.4 if seconds else 0.0, seconds=seconds),
    )


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
