"""Captions and generated clips of elsewhere, judged through the same benchmarks and Results."""

import dataclasses

import numpy as np
import pytest
import soundfile

from clapjax.evaluation import captioning, generated, probe
from clapjax.evaluation.benchmarks import Judged, load_benchmark
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.generation import bandwidth, kernel_distance
from clapjax.evaluation.text import line
from tests.data.building import make_example, write_records
from tests.evaluation.models import benchmark, embedded, unit


def judged(name, *captions) -> Judged:
    return Judged(id=name, captions=captions, kinds=("human",) * len(captions))


def test_captions_of_a_table(tmp_path):
    clips = [judged("a", "a dog barks", "barking"), judged("b", "rain"), judged("c", "a car")]
    said = {"a": "a dog barks", "c": "the rain falls"}
    texts = {"a dog barks": (1, 0), "the rain falls": (0.6, 0.8)}
    table = tmp_path / "captions.csv"
    table.write_text("id,caption\n" + "".join(f"{k},{v}\n" for k, v in said.items()) + "z,more\n")
    known = embedded(clips, [(1, 0), (1, 0), (0, 1)], texts)
    (result,) = captioning.run(known, EvaluationConfig(captions=str(table)))
    assert result.n == 2 and result.chance is None
    assert result.items["id"].tolist() == ["a", "c"]
    expected, _ = captioning.captioning(list(said.values()), [clips[0].captions, clips[2].captions])
    assert {name: result.metrics[name] for name in expected} == expected
    assert result.metrics["CLAP score"].value == pytest.approx((1 + 0.8) / 2)
    shown = line(result)
    assert "CLAP score 0.9 [" in shown and f"BLEU-1 {100 * expected['BLEU-1'].value:.1f} %" in shown


def test_captions_of_other_clips_are_refused(tmp_path):
    known = embedded([judged("a", "a dog")], [(1, 0)], {})
    with pytest.raises(ValueError, match="captioning: name a table with --config.evaluation.capt"):
        captioning.run(known, EvaluationConfig())
    (tmp_path / "t.csv").write_text("id,caption\nz,a dog\n")
    with pytest.raises(ValueError, match="t.csv: no id of it is of a clip; .* called 'a'"):
        captioning.run(known, EvaluationConfig(captions=str(tmp_path / "t.csv")))
    (tmp_path / "t.csv").write_text("id,caption\na,a dog\nb,\n")  # that would be left out
    with pytest.raises(ValueError, match="t.csv:3: no caption; remove the row"):
        captioning.run(known, EvaluationConfig(captions=str(tmp_path / "t.csv")))


def test_generated_clips_of_a_folder(tmp_path):
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", np.full(80, 0.1), 8000)
    rows = "".join(f"{number}.wav,prompt {number}\n" for number in range(6))
    (tmp_path / "prompts.csv").write_text(f"file,caption\n{rows}")
    real, made = unit(8, 4), unit(6, 4, seed=1)
    prompts = {f"prompt {i}": row for i, row in enumerate(unit(6, 4, seed=2))}
    heard = embedded([judged(f"m{i}", f"prompt {i}") for i in range(6)], made, prompts)
    known = embedded([judged(str(i)) for i in range(8)], real, {}, others={str(tmp_path): heard})
    (result,) = generated.run(known, EvaluationConfig(generated=str(tmp_path)))
    assert result.n == 6 and result.provenance["real"] == 8
    assert result.items["id"].tolist() == [f"m{i}" for i in range(6)]
    width = bandwidth(real)
    assert result.metrics["KAD"].value == pytest.approx(kernel_distance(real, made, width))
    cosines = [float(row @ prompts[f"prompt {i}"]) for i, row in enumerate(made)]
    assert result.metrics["CLAP score"].value == pytest.approx(np.mean(cosines))
    assert "KAD/real" in result.metrics and "CLAP score/real" not in result.metrics
    with pytest.raises(ValueError, match="generation: name a folder with"):
        generated.run(known, EvaluationConfig())


def test_what_they_need():
    bare = benchmark([judged("a", "x"), judged("b")])
    assert captioning.lacks(bare) == "1 clips of the split 'test' have no caption"
    assert captioning.lacks(benchmark([judged("a", "x")])) == generated.lacks(bare) == ""
    alone = benchmark([judged("a")])
    assert generated.lacks(alone) == "one clip alone is nothing to compare with"


def sounds_of(number: np.ndarray, seed=0) -> np.ndarray:
    """Embeddings near those of three classes."""
    found = unit(3, 8)[number] + 0.3 * unit(len(number), 8, seed=seed)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def test_a_probe_fold_by_fold():
    number = np.arange(24) % 3
    clips = [
        Judged(id=str(i), labels=(f"class {n}",), fold=1 + i // 12, origin=f"recording {i // 2}")
        for i, n in enumerate(number)
    ]
    known = embedded(clips, sounds_of(number), {})
    assert probe.lacks(known.benchmark) == ""
    (result,) = probe.run(known, EvaluationConfig())
    assert result.n == 24 and result.chance == pytest.approx(1 / 3)
    assert result.metrics["accuracy"].value > 0.9 and result.provenance["probe"] == "linear"
    assert result.items["fold"].tolist() == [1 + i // 12 for i in range(24)]
    expected = probe.probe(
        known.audio,
        np.array([clip.labels[0] for clip in clips]),
        np.array([clip.fold for clip in clips]),
        np.array([clip.origin for clip in clips]),
    )
    assert result.metrics == expected["metrics"]


def test_a_probe_is_trained_on_the_split_train(tmp_path):
    number = np.arange(24) % 3
    made = [make_example(i, labels=(f"class {n}",), origin=f"{i}") for i, n in enumerate(number)]
    data_dir = write_records(tmp_path / "records", {"train": made[:18], "test": made[18:]})
    heard = sounds_of(number)
    parts = {split: load_benchmark("mine", data_dir, split) for split in ("train", "test")}
    train = embedded(parts["train"].clips, heard[:18], {})
    known = embedded(parts["test"].clips, heard[18:], {}, others={str(data_dir): train})
    known = dataclasses.replace(known, benchmark=parts["test"])
    assert probe.lacks(parts["test"]) == ""
    (result,) = probe.run(known, EvaluationConfig())
    assert result.n == 6 and result.metrics["accuracy"].value == 1.0
    assert result.items["id"].tolist() == [f"clip-{i}" for i in range(18, 24)]


def test_what_a_probe_needs():
    clips = [Judged(id="a", labels=("x",)), Judged(id="b", labels=("y",))]
    assert probe.lacks(benchmark(clips)) == ""
    assert probe.lacks(benchmark([*clips, Judged(id="c")])).startswith("1 clips of the split")
