"""Random layouts: nothing leaks, nothing is lost, whatever happens in between."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from clapjax.data import paths, records
from clapjax.data.build import decoded, examples
from clapjax.data.build.folder import RejectedError
from clapjax.data.build.units import Work, WriteRecords
from clapjax.data.overlap import role_of_name
from tests.data.build.layouts import build, random_folder
from tests.data.build.test_processes import tree


def _origins(data_dir: Path) -> dict[str, set[str]]:
    """Role to the origins of its records."""
    found = {"train": set(), "held_out": set()}
    for split in records.read_build(data_dir)["counts"]:
        for example in records.read_examples(data_dir, split):
            assert example.origin
            found[role_of_name(split)].update(example.origin.split(";"))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_no_origin_on_both_sides_and_every_input_once(tmp_path, seed):
    """Fails where a recording in train.csv and test.csv stays in both, where only splits named
    train and test count, and where a validation clip, or one of a split not built, is no bar."""
    made = random_folder(tmp_path, seed)
    chance = random.Random(seed)
    chosen = chance.sample(made.splits, chance.randint(1, len(made.splits)))
    for number, splits in enumerate(((), tuple(chosen))):
        data_dir = tmp_path / f"{number}"
        try:
            rejected = [item.source for item in build(made.root, data_dir, splits=splits).rejected]
            origins = _origins(data_dir)
        except ValueError as error:  # all that was chosen may be unusable
            assert "none of its clips can be used" in str(error)
            file = tmp_path / f"{number}.incomplete" / "rejected.jsonl"
            rejected = [json.loads(line)["source"] for line in file.read_text().splitlines()]
            origins = {"train": set()}
        lost = [row for row in made.rows if not (made.root / row[0]).exists()]
        held_out = {row[2] for row in set(made.rows) - set(lost) if role_of_name(row[1]) != "train"}
        assert not origins["train"] & held_out
        assert not origins["train"] & origins.get("held_out", set())
        recorded = [
            example.source
            for split in (records.read_build(data_dir)["counts"] if data_dir.exists() else ())
            for example in records.read_examples(data_dir, split)
        ]
        wanted = made.sources(splits or made.splits)
        # Of splits that are not built, what has no audio is listed nevertheless.
        listed = Counter(recorded) + Counter(rejected)
        assert Counter({k: n for k, n in listed.items() if k in wanted}) == Counter(wanted)
        assert set(listed) - set(wanted) <= {f"set:{row[1]}/{Path(row[0]).stem}" for row in lost}


class Faults:
    """Ends a build at some call of what it writes and decodes with, before it or after it."""

    def __init__(self, seed: int):
        self.chance, self.left = random.Random(seed), 0

    def wrap(self, monkeypatch, owner, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments, **settings):
            self.left -= 1
            if self.left == 0 and self.chance.random() < 0.5:
                raise self.error()
            result = original(*arguments, **settings)
            if self.left == 0:
                raise self.error()
            return result

        monkeypatch.setattr(owner, name, call)

    def error(self) -> BaseException:
        return self.chance.choice([KeyboardInterrupt(), ValueError("bad"), OSError("disk full")])


@pytest.mark.parametrize("mode", ["direct", "mixup"])
@pytest.mark.parametrize("seed", range(3))
def test_failed_at_random_moments_it_ends_as_a_clean_one(tmp_path, monkeypatch, seed, mode):
    """Fails where an error discards the finished units."""
    made = random_folder(tmp_path, seed, ("train", "test", "validation"))
    settings = {"mode": mode, "drop_duplicates": bool(seed % 2)}
    build(made.root, tmp_path / "clean", **settings)
    faults, units = Faults(seed), tmp_path / "d.incomplete" / "units"
    finished, begun = set(), []
    for owner, name in (
        (paths, "put_file"), (paths, "write_text"), (paths, "remove_folder"),
        (paths, "move_folder"), (records, "write_metadata"), (examples, "decode_clip"),
        (decoded, "decode_clip"), (examples, "draw_mixture"),
    ):  # fmt: skip
        faults.wrap(monkeypatch, owner, name)

    def spy(kind: type[Work]) -> None:
        original = kind.__call__

        def call(self, unit):
            assert unit.name not in finished
            begun.append(unit.name)
            return original(self, unit)

        monkeypatch.setattr(kind, "__call__", call)

    spy(WriteRecords)
    spy(decoded.DecodeClips)
    failures, done = 0, False
    while not done:
        faults.left = faults.chance.randint(1, 12) if failures < 12 else 0
        try:
            done = bool(build(made.root, tmp_path / "d", **settings).counts)
        except (KeyboardInterrupt, ValueError, OSError):
            failures += 1
        if units.is_dir():
            finished |= {file.stem for file in units.glob("*.json")}
    assert failures >= 3 and len(set(begun)) > 4
    assert tree(tmp_path / "d") == tree(tmp_path / "clean")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["clean", "d", "set"]


@pytest.mark.parametrize("seed", range(2))
def test_on_rejected_error_names_each_input_once(tmp_path, seed):
    made = random_folder(tmp_path, seed)
    with pytest.raises(RejectedError):
        build(made.root, tmp_path / "d", on_rejected="error")
    lines = (tmp_path / "d.incomplete" / "rejected.jsonl").read_text().splitlines()
    skipped = build(made.root, tmp_path / "d").rejected  # goes on
    assert [json.loads(line)["source"] for line in lines] == [item.source for item in skipped]
