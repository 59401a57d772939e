"""Roles of splits, and what stays out of those that are trained on."""

import random
import warnings

import pytest
import soundfile

from clapjax.cli.main import main
from clapjax.data import records
from clapjax.data.build.builder import changed_since
from clapjax.data.build.config import SourceConfig
from clapjax.data.build.splits import divide_clips, hold_out_origins
from clapjax.data.overlap import find_splits, role_of_name
from clapjax.data.sources import list_clips
from clapjax.data.sources.clip import Clip
from clapjax.synthesis.sounds import render
from tests.data.build.layouts import RATE, build
from tests.data.miniature import write_audio, write_table


@pytest.mark.parametrize(
    ("role", "names"),
    [
        ("train", "train training balanced_train unbalanced_train train-clean-100 Train2"),
        ("held_out", "test valid val validation dev eval evaluation held_out test_clips val2017"),
        ("", "all development train_test evaluate contest part1"),
    ],
)
def test_roles_by_name(role, names):
    assert {role_of_name(name) for name in names.split()} == {role}


def _clip(number: int, split: str, group: str = "", **fields) -> Clip:
    values = {"id": f"{split}-{number}", "label": "", "fold": None, "read": None}
    values |= {"group": group or f"g{number}", "source": f"set:{split}/{number}", "split": split}
    return Clip(**(values | fields))


def _divide(clips, **settings):
    source = SourceConfig(kind="folder", path="set", mode="direct", **settings)
    return divide_clips(clips, source)


def test_a_split_whose_name_does_not_tell_is_an_error():
    clips = [_clip(0, "all"), _clip(1, "test")]
    with pytest.raises(ValueError, match=r"the split 'all' for training or held out\?.*all=train"):
        _divide(clips)
    assert list(_divide(clips, roles=("all=train",)).train) == ["all"]
    assert list(_divide(clips, roles=("all=held_out",)).held_out) == ["all", "test"]


def test_every_training_split_and_every_held_out_split_counts():
    """Fails where only those named train and test do, and where the other is not built."""
    clips = [
        _clip(0, "balanced_train", "a"),
        _clip(1, "unbalanced_train", "b"),
        _clip(2, "train", "c"),
        _clip(3, "validation", "a"),
        _clip(4, "eval", "b"),
    ]
    for splits in ((), ("balanced_train", "unbalanced_train", "train")):
        parts = _divide(clips, splits=splits)
        assert [clip.id for part in parts.train.values() for clip in part] == ["train-2"]
        assert [item.source for item in parts.rejected] == [
            "set:balanced_train/0",
            "set:unbalanced_train/1",
        ]
    assert _divide(clips, splits=("eval",)).rejected == []  # train is not asked for


def test_one_recording_in_two_tables(tmp_path):
    """Fails where the origin has the split in it."""
    root = tmp_path / "set"
    for number in range(3):
        write_audio(root / f"{number}.wav", number)
    write_table(root / "train.csv", [("0.wav", "a"), ("1.wav", "b")], "file,caption")
    write_table(root / "test.csv", [("1.wav", "b"), ("2.wav", "c")], "file,caption")
    result = build(root, tmp_path / "d")
    assert result.counts == {"train": 1, "test": 2}
    assert [item.source for item in result.rejected] == ["set:train/1"]


def test_lists_count_what_they_name(tmp_path):
    """Fails where LAION's balanced_train escapes them, and where one that fits nothing is mute."""
    (tmp_path / "some.txt").write_text("freesound:1\nfreesound:2\n")
    (tmp_path / "none.txt").write_text("youtube:aaaaaaaaaaa\n")
    lists = (str(tmp_path / "some.txt"), str(tmp_path / "none.txt"))
    clips = [_clip(n, "balanced_train", f"freesound:{n}") for n in range(3)]
    clips.append(_clip(3, "test", "freesound:2"))  # origin, not list
    with pytest.warns(UserWarning, match="none.txt: names 1 recordings, of which none is among th"):
        parts = _divide(clips, exclude=lists)
    assert parts.excluded == {lists[0]: 2, lists[1]: 0}
    assert [clip.id for clip in parts.train["balanced_train"]] == ["balanced_train-0"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _divide(clips, exclude=lists[:1])


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """A validation clip, quieter, in the training set; under another name."""
    root = tmp_path_factory.mktemp("twins") / "set"
    root.mkdir()
    rows = []
    for number, split in enumerate(("train", "train", "train", "validation")):
        name = ("rain", "applause", "siren", "applause")[number]
        samples = render(name, (1, 1 if number == 3 else number), 3.0, 2 * RATE)
        soundfile.write(root / f"{number}.wav", samples * (1 if number < 3 else 0.4), 2 * RATE)
        rows.append((f"{number}.wav", split, f"Sound {number}"))
    return write_table(root / "all.csv", rows, "file,split,caption").parent


@pytest.mark.parametrize("splits", [(), ("train",)])
def test_duplicates_of_any_held_out_clip_built_or_not(twins, tmp_path, splits):
    """Fails where validation is no test, and where with train alone nothing is compared."""
    result = build(twins, tmp_path / "d", drop_duplicates=True, splits=splits)
    assert [item.source for item in result.rejected] == ["set:train/1"]
    assert result.counts["train"] == 2


def test_duplicates_of_nothing_are_an_error(twins, tmp_path):
    roles = ("validation=train",)
    with pytest.raises(ValueError, match="drop_duplicates: there is no held-out split to compare"):
        build(twins, tmp_path / "d", drop_duplicates=True, roles=roles)


def test_records_are_kept_out_by_the_roles_of_their_splits(twins, tmp_path, capsys):
    """As `records overlap` compares them: all held-out splits where none is named."""
    build(twins, tmp_path / "d")
    name = str(tmp_path / "d")
    assert find_splits(name, "held_out") == [(name, "validation")]
    assert find_splits(f"{name}:train", "held_out") == [(name, "train")]
    assert main(["records", "overlap", name, name]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 3 recordings are in both"
    other = build(twins, tmp_path / "e", splits=("train",), exclude_audio=(name,))
    assert [item.source for item in other.rejected] == ["set:train/1"]
    build(twins, tmp_path / "f", splits=("train",))
    with pytest.raises(records.RecordsError, match="no split whose name says held_out"):
        find_splits(str(tmp_path / "f"), "held_out")


def test_windows_are_cut_of_training_clips_alone(twins, tmp_path):
    """Fails where a caption of a test set has several audios."""
    for held_out, count in ((False, 1), (True, 3)):
        result = build(
            twins, tmp_path / f"{held_out}", window_seconds=1.0, window_held_out=held_out
        )
        assert result.counts == {"train": 9, "validation": count}


def test_the_origin_is_stored(twins, tmp_path):
    groups = {clip.source: clip.group for clip in list_clips("folder", twins)[0]}
    build(twins, tmp_path / "d")
    for split in ("train", "validation"):
        for example in records.read_examples(tmp_path / "d", split):
            assert example.origin == groups[example.source]


@pytest.mark.parametrize("seed", range(6))
def test_a_held_out_share_is_made_by_origin(seed):
    """No origin on both sides; the same whatever is added, once there are enough."""
    chance = random.Random(seed)
    clips = [_clip(n, "train", f"g{chance.randrange(200)}") for n in range(400)]
    clips += [_clip(n, "balanced_train", f"g{chance.randrange(200)}") for n in range(400, 500)]
    listed = {"train": clips[:400], "balanced_train": clips[400:]}

    def sides(clips) -> tuple[set, set]:
        listed = {"train": clips[:400], "balanced_train": clips[400:]}
        held_out = hold_out_origins(listed, 0.2, seed)
        assert sorted(c.id for part in held_out.values() for c in part) == sorted(
            c.id for c in clips
        )
        test = {clip.group for clip in held_out.pop("test")}
        return {clip.group for part in held_out.values() for clip in part}, test

    train, test = sides(clips)
    assert not train & test and 0.1 < len(test) / len(train | test) < 0.3
    more, held = sides(clips + [_clip(n, "balanced_train", f"new{n}") for n in range(500, 600)])
    assert train <= more and test <= held
    other = hold_out_origins(listed, 0.2, seed + 1)["test"]
    assert {clip.group for clip in other} != test


@pytest.mark.parametrize(("origins", "least"), [(1, 0), (3, 0), (4, 1), (8, 2), (16, 4), (30, 4)])
def test_of_few_origins_a_quarter_is_held_out(origins, least):
    """Fails where a share of a tiny set is nothing, or all of it."""
    for seed in range(20):
        clips = {"train": [_clip(n, "train") for n in range(origins)]}
        held_out = hold_out_origins(clips, 0.01, seed).get("test", [])
        assert least <= len(held_out) <= origins // 2
        assert len(hold_out_origins(clips, 0.9, seed)["train"]) >= origins / 2


def test_nothing_is_held_out_where_a_split_is_or_train_alone_is_asked_for():
    clips = [_clip(n, "train") for n in range(8)]
    assert len(_divide(clips, held_out_share=0.1).held_out["test"]) >= 2
    assert not _divide(clips).held_out
    assert not _divide(clips, held_out_share=0.1, splits=("train",)).held_out
    there = [*clips, _clip(9, "validation")]
    assert list(_divide(there, held_out_share=0.1).held_out) == ["validation"]
    with pytest.raises(ValueError, match="held_out_share: 'test' is for training"):
        _divide([_clip(0, "test")], held_out_share=0.1, roles=("test=train",))
    with pytest.raises(ValueError, match="held_out_share must be in 0 .. 1, not 1"):
        _divide(clips, held_out_share=1.0)


def test_a_folder_with_one_table_is_divided(tmp_path):
    root = tmp_path / "set"
    rows = [(write_audio(root / f"{n}.wav", n).name, f"Sound {n}") for n in range(8)]
    write_table(root / "sounds.csv", rows, "file,caption")
    result = build(root, tmp_path / "d", held_out_share=0.1)
    assert sum(result.counts.values()) == 8 and 2 <= result.counts["test"] <= 4
    origins = [{e.origin for e in records.read_examples(tmp_path / "d", s)} for s in result.counts]
    assert not origins[0] & origins[1]
    path, source = str(root), SourceConfig(kind="folder", path=str(root), held_out_share=0.1)
    assert changed_since(source, tmp_path / "d") == ""
    other = SourceConfig(kind="folder", path=path, held_out_share=0.2, on_rejected="error")
    expected = "source.held_out_share was 0.1, is 0.2"
    assert changed_since(other, tmp_path / "d") == expected
    write_table(root / "more.csv", [(write_audio(root / "8.wav", 8).name, "New")], "file,caption")
    assert changed_since(source, tmp_path / "d") == f"{root} has changed (1 new, 0 gone, 0 changed)"
