import numpy as np
import pytest
from scipy.special import expit
from sklearn.calibration import _SigmoidCalibration
from sklearn.metrics import precision_recall_curve

from clapjax.evaluation import zero_shot
from clapjax.evaluation.benchmarks import Judged
from clapjax.evaluation.calibration import calibrate, logistic, read_calibration, threshold
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.result import Metric, Result, write_results
from tests.evaluation.models import embedded, unit


def pairs(n=300, labels=4, seed=0, decimals=None):
    rng = np.random.default_rng(seed)
    present = rng.random((n, labels)) < 0.2
    scores = rng.normal(size=present.shape) * 0.1 + 0.2 * present - 0.05
    return scores if decimals is None else scores.round(decimals), present


@pytest.mark.parametrize("decimals", [None, 1])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_f1_of_all_thresholds(seed, decimals):
    scores, present = pairs(seed=seed, decimals=decimals)
    precision, recall, _ = precision_recall_curve(present.ravel(), scores.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    found = threshold(scores, present)
    assert found["f1"] == pytest.approx(f1.max())
    heard = scores >= found["threshold"]  # what a user of the threshold gets
    assert found["precision"] == pytest.approx(present[heard].mean())
    assert found["recall"] == pytest.approx(heard[present].mean())
    assert (found["n"], found["present"]) == (scores.size, present.sum())


def test_the_most_recall_of_a_precision():
    scores, present = pairs()
    precision, recall, _ = precision_recall_curve(present.ravel(), scores.ravel())
    found = threshold(scores, present, precision=0.9)
    assert found["precision"] >= 0.9
    assert found["recall"] == pytest.approx(recall[precision >= 0.9].max())
    with pytest.raises(ValueError, match=r"no threshold of precision 0\.9; the best has 0\.500"):
        threshold([0.1, 0.1], [True, False], precision=0.9)


def test_probabilities_are_those_of_platt():
    scores, present = pairs()
    slope, offset = logistic(scores, present)
    reference = _SigmoidCalibration().fit(scores.ravel(), present.ravel())
    np.testing.assert_allclose(
        expit(slope * scores.ravel() + offset), reference.predict(scores.ravel()), atol=1e-4
    )
    assert np.isfinite(logistic([0.1, 0.2, 0.3, 0.4], [False, False, True, True])).all()


@pytest.mark.parametrize(
    ("scores", "present", "message"),
    [
        ([0.1, np.nan], [True, False], "NaN"),
        ([0.1, 0.2], [True, True], "match and that do not"),
        ([0.1, 0.2], [False, False], "match and that do not"),
        ([0.1, 0.2], [True], r"scores \(2,\), present \(1,\)"),
        ([], [], "scores"),
    ],
)
def test_bad_input(scores, present, message):
    for function in (threshold, logistic):
        with pytest.raises(ValueError, match=message):
            function(scores, present)


def test_zero_shot_results_hold_a_calibration_of_their_own():
    clips = [Judged(str(i), labels=(label,)) for i, label in enumerate("abcab")]
    audio, classes = unit(5, 4), unit(3, 4, seed=1)
    texts = {f"This is a sound of {name}.": row for name, row in zip("abc", classes, strict=True)}
    (result,) = zero_shot.run(embedded(clips, audio, texts), EvaluationConfig())
    present = np.array([[name in clip.labels for name in "abc"] for clip in clips])
    assert result.provenance["calibration"] == pytest.approx(calibrate(audio @ classes.T, present))
    alike = [Judged(str(i), labels=("a",)) for i in range(5)]
    (result,) = zero_shot.run(embedded(alike, audio, texts), EvaluationConfig())
    assert "calibration" not in result.provenance  # what is always there has no threshold


def test_a_calibration_is_read_for_its_model_and_template(tmp_path):
    metrics = {"accuracy": Metric(0.5, 0.1, 0.9)}
    told = [
        {"fingerprint": name, "template": template, "calibration": {"threshold": at}}
        for name, template, at in (("f", "{}", 0.1), ("f", "a {}", 0.2), ("g", "{}", 0.3))
    ]
    results = [Result("m", "set", "zero_shot", 9, 0.5, metrics, one) for one in told]
    write_results(tmp_path, results)
    assert read_calibration(tmp_path, "f", "a {}") == {"threshold": 0.2}
    assert read_calibration(tmp_path, "g") == {"threshold": 0.3}
    with pytest.raises(ValueError, match="no zero-shot results of this model"):
        read_calibration(tmp_path, "h")
    with pytest.raises(ValueError, match="was measured with the template '{}', not 'b {}'"):
        read_calibration(tmp_path, "f", "b {}")
