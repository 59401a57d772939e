"""Results on disk: what was written is read, old items go, NaN and other files are refused."""

import dataclasses
import json
import math

import numpy as np
import pytest

from clapjax.evaluation.result import Metric, Result, read_results, tell_apart, write_results

RESULT = Result(
    "temporal",
    "demo",
    "t_classify",
    n=3,
    chance=0.5,
    metrics={"text_to_audio": Metric(2 / 3, 0.2, 0.9), "margin": Metric(0.1, -0.2, 0.3)},
    provenance={"step": 7, "split": "test"},
    items={"id": np.array(["a", "b", "ü"]), "margin": np.array([0.5, -0.1, 0.2])},
)


def test_results_come_back_from_disk(tmp_path):
    bare = dataclasses.replace(RESULT, task="zero_shot", chance=None, items={})
    write_results(tmp_path, [RESULT, bare])
    first, second = read_results(tmp_path)
    assert dataclasses.replace(first, items={}) == dataclasses.replace(RESULT, items={})
    assert second == bare
    assert {name: column.tolist() for name, column in first.items.items()} == {
        "id": ["a", "b", "ü"],
        "margin": [0.5, -0.1, 0.2],
    }
    assert first.scores() == {"t_classify/text_to_audio": 2 / 3, "t_classify/margin": 0.1}


def test_json_has_the_documented_form(tmp_path):
    write_results(tmp_path, [RESULT])
    (row,) = json.loads((tmp_path / "results.json").read_text())
    assert list(row) == ["model", "benchmark", "task", "n", "chance", "metrics", "provenance"]
    assert row["metrics"]["text_to_audio"] == {"value": 2 / 3, "low": 0.2, "high": 0.9}
    assert row["provenance"]["step"] == 7


def test_items_of_replaced_results_go(tmp_path):
    write_results(tmp_path, [RESULT])
    write_results(tmp_path, [dataclasses.replace(RESULT, items={"margin": np.zeros(3)})])
    assert len(list((tmp_path / "items").iterdir())) == 1
    assert read_results(tmp_path)[0].items["margin"].tolist() == [0, 0, 0]


def test_not_a_number_is_refused_by_name_and_the_old_results_stay(tmp_path):
    write_results(tmp_path, [RESULT])
    bad = dataclasses.replace(RESULT, metrics={"margin": Metric(0.1, math.nan, 1.0)})
    with pytest.raises(ValueError, match="t_classify: margin low is nan"):
        write_results(tmp_path, [bad])
    assert read_results(tmp_path)[0].n == 3


@pytest.mark.parametrize("text", ["", "{", '{"t_classify": {}}', '[{"n": 3}]', "[3]"])
def test_other_files_are_refused(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ValueError, match="results.json: damaged, or no results"):
        read_results(tmp_path)


METRICS = {"R@1": {"value": 0.5, "low": 0.0, "high": 1.0}}


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": {}},
        {"metrics": {"R@1": 0.5}},
        {"metrics": {"R@1": {"value": "a", "low": 0, "high": 1}}},
        {"model": 5},
        {"n": "many"},
        {"chance": "half"},
        {"provenance": 3},
        {"more": 1},
    ],
)
def test_a_row_of_another_form_is_refused(tmp_path, change):
    row = {"model": "m", "benchmark": "b", "task": "t", "n": 1, "chance": None}
    row |= {"metrics": METRICS, "provenance": {}}
    (tmp_path / "results.json").write_text(json.dumps([row]))
    assert read_results(tmp_path)[0].metrics["R@1"].value == 0.5
    (tmp_path / "results.json").write_text(json.dumps([row | change]))
    with pytest.raises(ValueError, match="results.json: damaged, or no results"):
        read_results(tmp_path)


def test_no_results_are_one_clear_line(tmp_path):
    (tmp_path / "results.json").write_text("[]")
    with pytest.raises(ValueError, match="results.json: there is no result in it"):
        read_results(tmp_path)
    with pytest.raises(ValueError, match="no results here; `clapjax eval` writes them"):
        read_results(tmp_path / "gone")


def test_what_only_shares_a_name_is_told_apart():
    """Fails before: of two runs in folders of one name, a joined table kept the last one."""

    def result(task="retrieval", model="run", **made):
        made = {"fingerprint": "f" * 32, "source": "a/run", "step": 9} | made
        made = {"data": "d" * 32, "path": "data/x", "split": "test"} | made
        return dataclasses.replace(RESULT, model=model, benchmark="x", task=task, provenance=made)

    def names(*results) -> list[str]:
        told = tell_apart(results)
        back = [dataclasses.replace(one, model="run", benchmark="x") for one in told]
        assert back == [dataclasses.replace(one, model="run") for one in results]
        return [f"{one.model} on {one.benchmark}" for one in told]

    plain = result()
    clips = result("zero_shot", split="test_clips")
    assert names(plain, clips, plain, result(model="other")) == [
        *["run on x"] * 3,
        "other on x",
    ]
    other = result(fingerprint="e" * 32, source="b/run")
    assert names(plain, clips, other) == ["run (a/run) on x"] * 2 + ["run (b/run) on x"]
    later = result(fingerprint="e" * 32, step=10)
    assert names(plain, later) == ["run (step 9) on x", "run (step 10) on x"]
    again = result(fingerprint="e" * 32)
    assert names(plain, again) == ["run (ffffffff) on x", "run (eeeeeeee) on x"]

    folder = result(data="c" * 32, path="x")
    assert names(plain, clips, folder) == ["run on x (data/x)"] * 2 + ["run on x (x)"]
    split = result(split="validation")
    assert names(plain, split) == ["run on x (test)", "run on x (validation)"]
    rebuilt = result(data="c" * 32)
    assert names(plain, rebuilt) == ["run on x (dddddddd)", "run on x (cccccccc)"]
