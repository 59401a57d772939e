"""Generated clips against real ones of the same name, by class posteriors and frames."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from scipy.special import softmax
from scipy.stats import entropy

from clapjax.evaluation import generated
from clapjax.evaluation.benchmarks import Judged, load_benchmark
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.generated import judge, judge_by_tags
from clapjax.evaluation.generation import distributions
from tests.evaluation.models import benchmark, embedded, unit

LABELS = ("dog", "rain")  # sound as 1 and 2


def clip(name, *events, labels=()):
    return Judged(name, events=events, labels=labels or events)


def set_of(sounds: dict, **clips):
    """A benchmark of clips that sound for a second at 8 kHz for each number."""

    def play(rate, first=0):
        for at, numbers in list(enumerate(sounds.values()))[first:]:
            yield at, False, np.repeat(np.array(numbers, np.int16), rate)

    return benchmark([clips.get(name, clip(name)) for name in sounds], play)


def listen(bench):
    """Hears the share of each label in a clip; silence is neither."""
    shares = [
        [np.mean(samples == number) for number in (1, 2)] for _, _, samples in bench.sounds(8000, 0)
    ]
    return bench.clips, np.array(shares)


def test_order_errors_of_frames_beside_those_of_real_clips():
    both = ("dog", "rain")
    names = ["a", "b", "c", "d"]
    real = set_of(
        {"a": [1, 1, 2], "b": [1, 2, 2], "c": [2, 1, 1], "d": [1, 2], "e": [1, 2]},
        **{name: clip(name, *both) for name in names},
        e=clip("e", "dog"),
    )
    made = set_of({"set-a": [1, 2], "set-test/b": [1, 1], "c": [2, 1], "other": [1], "set-e": [2]})
    settings = EvaluationConfig(frames=0.5)
    (kl, kl_items), (metrics, items) = judge(real, made, listen, LABELS, settings)
    assert items["id"].tolist() == ["set-a", "set-test/b", "c"]
    assert items["order"].tolist() == ["", "missing", "order"]
    assert metrics["order error"].value == pytest.approx(2 / 3)
    assert metrics["order error/real"].value == pytest.approx(1 / 3)  # c itself is wrong
    assert metrics["order error/order/real"].value == pytest.approx(1 / 3)
    assert metrics["order error/missing/real"].value == 0
    assert kl_items["id"].tolist() == ["set-a", "set-test/b", "c", "set-e"]
    assert len(judge(real, made, listen, LABELS, EvaluationConfig())) == 1  # no frames, no order
    assert judge(real, made, listen, ("dog", "cat"), settings)[1:] == []  # rain is no label


def test_files_are_named_as_the_real_clips_or_by_their_ids(tmp_path):
    """As sources make ids of files: with the folder, the split and inner folders in front."""
    for name in ("real", "made-again"):
        (tmp_path / name / "in").mkdir(parents=True)
    for file in ("real/a.wav", "real/in/b.wav", "made-again/a.flac", "made-again/in/b.wav"):
        soundfile.write(tmp_path / file, np.zeros(80), 8000)
    (tmp_path / "real" / "t.csv").write_text("file,label\na.wav,x\nin/b.wav,y\n")
    (tmp_path / "made-again" / "t.csv").write_text(
        "file,label,split\na.flac,x,test\nin/b.wav,y,test\n"
    )
    sets = (
        load_benchmark("own", tmp_path / "real"),
        load_benchmark("other", tmp_path / "made-again"),
    )

    def posteriors(bench):
        return bench.clips, np.full((len(bench.clips), 2), 0.5)

    ((_, items),) = judge(*sets, posteriors, ("x", "y"), EvaluationConfig())
    assert len(items["id"]) == 2
    records = set_of({"mix-1": [1], "mix-2": [1]})
    made = set_of({"set-mix-2": [1], "set-mix-3": [1], "set-2": [1]})
    ((_, items),) = judge(records, made, posteriors, ("x", "y"), EvaluationConfig())
    assert items["id"].tolist() == ["set-mix-2"]


def test_divergence_of_clips_of_one_name_and_of_real_ones_alike():
    rng = np.random.default_rng(0)
    rows = {key: rng.dirichlet(np.ones(2)) for key in ("a", "b", "c", "set-a", "set-x/c")}
    real = set_of({"a": [1], "b": [1], "c": [1]}, a=clip("a", "dog"), c=clip("c", "dog"))
    made = set_of({"set-x/c": [1], "set-a": [1]})

    def posteriors(bench):
        return bench.clips, np.array([rows[one.id] for one in bench.clips])

    ((metrics, items),) = judge(real, made, posteriors, LABELS, EvaluationConfig(frames=1.0))
    expected = [entropy(rows["a"], rows["set-a"]), entropy(rows["c"], rows["set-x/c"])]
    np.testing.assert_allclose(items["KL"], expected, rtol=1e-5)
    assert metrics["KL"].value == pytest.approx(np.mean(expected), rel=1e-5)
    ceiling = [entropy(rows["a"], rows["c"]), entropy(rows["c"], rows["a"])]
    assert metrics["KL/real"].value == pytest.approx(np.mean(ceiling), rel=1e-5)


def test_posteriors_of_labels_judged_for_themselves_are_the_softmax_of_their_logits():
    logits = np.random.default_rng(0).normal(size=(5, 4))
    found = distributions(1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(found, softmax(logits, axis=1))
    sure = softmax(logits, axis=1)
    np.testing.assert_array_equal(distributions(sure), sure)
    assert np.isfinite(distributions([[0.0, 1.0, 1.0]])).all()
    for bad in ([[np.nan, 1]], [[-0.1, 1.1]], [0.5], np.zeros((0, 2))):
        with pytest.raises(ValueError, match="probabilities"):
            distributions(bad)


def test_zero_shot_posteriors_of_a_clap_model(monkeypatch):
    audio, made, names = unit(3, 4), unit(3, 4, seed=1), ("a", "b", "c")
    texts = {
        f"This is a sound of {label}.": row
        for label, row in zip(LABELS, unit(2, 4, seed=2), strict=True)
    }
    heard = embedded([clip(name) for name in names], made, texts)
    real = embedded(
        [clip(name, label) for name, label in zip(names, (*LABELS, "dog"), strict=True)],
        audio,
        texts,
    )
    by_data = {real.benchmark.path: real, "made": heard}
    heard = dataclasses.replace(heard, benchmark=dataclasses.replace(heard.benchmark, path="made"))
    by_data["made"] = heard
    real = dataclasses.replace(real, scale=5.0, embed=lambda bench: by_data[bench.path])
    monkeypatch.setattr(generated, "load_benchmark", lambda *_: heard.benchmark)
    first, second = generated.run(real, EvaluationConfig(generated="made"))
    assert {"FAD", "KAD"} <= set(first.metrics) and "KL" not in first.metrics
    classes = np.array(list(texts.values()))
    p, q = (softmax(5 * rows @ classes.T, axis=1) for rows in (audio, made))
    np.testing.assert_allclose(second.items["KL"], entropy(p, q, axis=1), rtol=1e-4)
    assert second.n == 3 and second.chance is None and second.provenance["classes"] == 2


def test_a_tagger_judges_too(monkeypatch):
    real = set_of({"a": [1, 2], "b": [1]}, a=clip("a", "dog", "rain"))
    made = set_of({"a": [2, 1], "z": [1]})

    class Tagger:
        labels, config = LABELS, SimpleNamespace(audio=SimpleNamespace(sample_rate=4000))

        def each(self, audio, *, sampling_rate, long=None, hop=None):
            for at, samples in enumerate(audio):
                yield at, np.array([np.mean(samples == 1), np.mean(samples == 2)])

    monkeypatch.setattr(generated, "load_benchmark", lambda *_: made)
    settings = EvaluationConfig(generated="made", frames=0.5)
    kl, order = judge_by_tags(Tagger(), "tagger", real, settings, provenance={"step": 1})
    assert kl.n == order.n == 1 and kl.provenance["step"] == 1
    assert kl.metrics["KL"].value == pytest.approx(0, abs=1e-9)  # as much of both
    assert order.metrics["order error/order"].value == 1
    assert order.metrics["order error/real"].value == 0
    monkeypatch.setattr(generated, "load_benchmark", lambda *_: set_of({"z": [1]}))
    with pytest.raises(ValueError, match="no clip has the name of one of path, such as 'a'"):
        judge_by_tags(Tagger(), "tagger", real, settings)


def test_bad_frames():
    with pytest.raises(ValueError, match=r"evaluation\.frames: 0\.1 to 10 seconds"):
        EvaluationConfig(frames=60.0)
