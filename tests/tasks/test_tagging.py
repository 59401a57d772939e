"""Tagging goes through the same loop: it learns, resumes, shards, micro-batches and plans."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import optax
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from clapjax.audio.mel import log_mel
from clapjax.data import label_index
from clapjax.data.records import RecordsError
from clapjax.experiment import make_task
from clapjax.inference import Tagger
from clapjax.models.clap import make_audio_encoder
from clapjax.models.config import PANNConfig
from clapjax.planning.flops import matrix_flops
from clapjax.planning.shapes import activation_bytes, batch_shapes
from clapjax.tasks import doubts, tagging
from clapjax.tasks.doubts import label_doubts
from clapjax.tasks.tagging import PLANNED, TaggingConfig, workdir_labels
from clapjax.tasks.task import Setting
from clapjax.training import checkpoint
from clapjax.training.config import MeshConfig, OptimizerConfig
from clapjax.training.log_files import read_log
from clapjax.training.mesh import make_mesh
from tests.data.building import make_example, write_records
from tests.training.tiny import (
    abstract_state,
    init_state,
    make_train_step,
    norm,
    run_steps,
    some_mesh,
    tiny_config,
    train,
)

LABELS = ("cat", "dog", "rain")


@pytest.fixture(scope="module")
def config():
    """The tiny audio encoder under three labels; epsilon keeps rounding noise small."""
    tiny = tiny_config()
    return dataclasses.replace(
        tiny,
        task="tagging",
        tagging=TaggingConfig(LABELS),
        optimizer=dataclasses.replace(tiny.optimizer, eps=1e-3),
    )


@pytest.fixture(scope="module")
def wide(config):
    """Its kernels drawn by their fan-in, without which so narrow a model learns slowly."""
    htsat = dataclasses.replace(config.model.htsat, init_std=0.0)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, htsat=htsat))


def _batch(index: int, rows: int = 16) -> dict[str, np.ndarray]:
    """A tone for each label; rows 2 i and 2 i + 1 hear the same."""
    generator = np.random.default_rng(index)
    label = np.repeat(generator.integers(0, 3, rows // 2), 2)
    tone = np.sin(np.arange(16_000) * (0.1 + 0.2 * label)[:, None])
    noise = np.repeat(generator.normal(0, 0.1, (rows // 2, 16_000)), 2, axis=0)
    return {
        "audio": (10_000 * (tone + noise)).astype(np.int16),
        "targets": np.eye(3, dtype=bool)[label],
    }


def test_objectives_are_optax_and_by_hand(config):
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    targets = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1]], bool)
    setting = Setting(some_mesh(1))

    def objective(loss):
        task = make_task(dataclasses.replace(config, tagging=TaggingConfig(LABELS, loss)))
        return task.objective({"logits": logits}, {}, {"targets": targets}, 0, setting)

    loss, metrics = objective("bce")
    expected = optax.sigmoid_binary_cross_entropy(logits, targets.astype(np.float32)).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    right = [targets[i, logits[i].argmax()] for i in range(4)]
    np.testing.assert_allclose(metrics["accuracy"], sum(right) / 3, rtol=1e-6)  # three have labels
    loss, _ = objective("ce")
    logp = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    by_hand = -(logp[0, 0] + (logp[1, 1] + logp[1, 2]) / 2 + logp[3, 2]) / 3
    np.testing.assert_allclose(loss, by_hand, rtol=1e-5)


@pytest.mark.parametrize(("loss", "head"), [("bce", "linear"), ("ce", "token_semantic")])
def test_it_learns(wide, loss, head):
    """To tell tones apart that differ in their height alone, with noise that it has not heard.

    A single stage knows height by relative positions only, which takes a hundred steps to learn.
    """
    config = dataclasses.replace(
        wide,
        steps=150,
        tagging=TaggingConfig(LABELS, loss, head=head),
        optimizer=dataclasses.replace(wide.optimizer, eps=1e-8),
    )
    state, rows = run_steps(config, some_mesh(1), [_batch(i) for i in range(150)])
    assert np.mean([row["accuracy"] for row in rows[-20:]]) == 1
    assert np.mean([row["loss"] for row in rows[-20:]]) < 0.1 * rows[0]["loss"]
    batch = _batch(999, 96)
    tagger = Tagger(config.model, config.tagging, state.variables())
    scores = tagger.tag(list(batch["audio"]))
    np.testing.assert_array_equal(scores.argmax(axis=1), batch["targets"].argmax(axis=1))
    value = log_loss(batch["targets"].argmax(axis=1), scores / scores.sum(axis=1, keepdims=True))
    assert value < 0.1  # as in training: its statistics are those of evaluation


def test_a_linear_probe_is_logistic_regression(wide):
    """On a frozen encoder, of clips that sound alike but are labelled in several ways."""
    config = dataclasses.replace(
        wide,
        steps=200,
        tagging=TaggingConfig(LABELS, "ce"),
        optimizer=OptimizerConfig(
            learning_rate=0.3,
            warmup_steps=1,
            weight_decay=0,
            clip_norm=0,
            freeze=("audio_encoder",),
        ),
    )
    noise = 3000 * np.random.default_rng(0).normal(size=16_000)
    sounds = np.array([noise, 10_000 * np.sin(0.3 * np.arange(16_000)), 0 * noise], np.int16)
    label = (np.arange(15) + np.repeat([0, 0, 0, 1, 2], 3)) % 3
    batch = {"audio": np.tile(sounds, (5, 1)), "targets": np.eye(3, dtype=bool)[label]}
    mel = np.asarray(log_mel(batch["audio"], config.model.audio))
    moments = {"mean": mel.mean(axis=(0, 1)), "var": mel.var(axis=(0, 1))}
    state = init_state(config, some_mesh(1))
    stats = {"audio_encoder": {"batch_norm": moments}}  # with which the sounds differ much
    state = state.replace(batch_stats=jax.tree.map(jax.numpy.asarray, stats))
    start = jax.device_get(state).variables()
    state, rows = run_steps(config, some_mesh(1), [batch] * config.steps, state)
    for kind, tree in jax.device_get(state.variables()).items():
        jax.tree.map(
            np.testing.assert_array_equal, tree["audio_encoder"], start[kind]["audio_encoder"]
        )
    encoder = make_audio_encoder(config.model, np.float32)
    own = {kind: tree["audio_encoder"] for kind, tree in start.items()}
    features, _ = jax.jit(lambda mel: encoder.apply(own, mel, False))(mel)
    theirs = LogisticRegression(C=np.inf, tol=1e-8, max_iter=10_000)
    expected = theirs.fit(np.asarray(features, np.float64), label).predict_proba(features)
    assert rows[-1]["loss"] == pytest.approx(log_loss(label, expected), rel=1e-3)
    found = Tagger(config.model, config.tagging, state.variables()).tag(list(batch["audio"]))
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("layers", [0, 2])
def test_frozen_blocks_of_a_pann_stay_and_the_others_move(config, layers):
    """Bit for bit, with their batch statistics; what stands above them moves."""
    pann = PANNConfig(base_width=4)
    model = dataclasses.replace(config.model, audio_encoder="cnn6", pann=pann)
    optimizer = dataclasses.replace(
        config.optimizer, freeze=(f"audio_encoder:{layers}",), warmup_steps=0, eps=1e-8
    )
    config = dataclasses.replace(config, model=model, optimizer=optimizer)
    start = jax.device_get(init_state(config, some_mesh(1))).variables()
    state, _ = run_steps(config, some_mesh(1), [_batch(0)])
    found = jax.device_get(state.variables())
    still = {"batch_norm", *(f"block{i}" for i in range(1, layers + 1))}
    for kind in ("params", "batch_stats"):
        same = jax.tree.map(
            np.array_equal, found[kind]["audio_encoder"], start[kind]["audio_encoder"]
        )
        for name, leaves in same.items():
            assert set(jax.tree.leaves(leaves)) == {name in still}, (kind, name)
    assert not np.array_equal(found["params"]["head"]["kernel"], start["params"]["head"]["kernel"])


def _in_half(index: int) -> dict[str, np.ndarray]:
    """A batch for mix-up: rows 2 i and 2 i + 1 become the same mixture."""
    share = np.random.default_rng(index).random(8, np.float32)
    return _batch(index) | {"share": np.repeat(share, 2)}


@pytest.mark.parametrize("loss", ["bce", "ce"])
def test_mix_up_is_that_of_laion_clap(config, loss):
    """Its do_mixup, on clips with several labels, one or none; "ce" mixes shares of a clip."""

    def do_mixup(x, mixup_lambda):  # open_clip/utils.py, with numpy for torch
        x = x.T * mixup_lambda + np.flip(x, axis=0).T * (1 - mixup_lambda)
        return x.T

    task = make_task(dataclasses.replace(config, tagging=TaggingConfig(LABELS, loss, mixup=0.5)))
    generator = np.random.default_rng(0)
    audio = generator.integers(-(2**15), 2**15, (5, 700)).astype(np.int16)
    targets = np.array([[1, 1, 0], [0, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 1]], bool)
    share = generator.random(5).astype(np.float32)
    lengths = np.array([700, 20, 300, 40, 500], np.int32)
    batch = {"audio": audio, "targets": targets, "share": share, "lengths": lengths}
    found = jax.jit(task.mix)(batch)
    assert found.keys() == {"audio", "targets", "lengths"}
    np.testing.assert_allclose(found["audio"], do_mixup(audio / 32767, share), atol=1e-6)
    own = targets.astype(float)
    if loss == "ce":
        own[0] /= 2
        own[2] /= 3
    np.testing.assert_allclose(found["targets"], do_mixup(own, share), atol=1e-6)
    np.testing.assert_array_equal(found["lengths"], [700, 40, 300, 40, 700])
    # The objective takes them as they are: row 1 is half a clip where row 3 has no label.
    logits = generator.normal(size=(5, 3)).astype(np.float32)
    value, _ = task.objective({"logits": logits}, {}, found, 0, Setting(some_mesh(1)))
    mixed = do_mixup(own, share)
    if loss == "ce":
        expected = -np.sum(mixed * (logits - np.log(np.exp(logits).sum(1, keepdims=True)))) / 5
    else:
        probable = 1 / (1 + np.exp(-logits))
        expected = -np.mean(mixed * np.log(probable) + (1 - mixed) * np.log(1 - probable))
    assert value == pytest.approx(expected, rel=1e-5)


def test_shifts_turn_each_row_round_in_its_own_length(config):
    """And come before mix-up."""
    generator = np.random.default_rng(0)
    audio = generator.integers(-(2**15), 2**15, (4, 50)).astype(np.int16)
    shift, share = np.array([0, 0.5, 0.99, 0.3], np.float32), np.array([1, 0.5, 0.2, 0], np.float32)
    lengths = np.array([50, 10, 50, 7], np.int32)
    both = {"share": share, "targets": np.eye(4, 3, dtype=bool), "shift": shift}
    task = make_task(dataclasses.replace(config, tagging=TaggingConfig(LABELS, "bce", 0.5, True)))
    for own in (None, lengths):
        batch = {"audio": audio} | both | ({} if own is None else {"lengths": own})
        rolled = audio / 32767
        for row, length in enumerate(np.full(4, 50) if own is None else own):
            start = int(shift[row] * length)
            rolled[row, :length] = np.roll(rolled[row, :length], -start)
        expected = share[:, None] * rolled + (1 - share[:, None]) * rolled[::-1]
        np.testing.assert_allclose(jax.jit(task.mix)(batch)["audio"], expected, atol=1e-6)
    task = make_task(dataclasses.replace(config, tagging=TaggingConfig(LABELS, shift=True)))
    found = task.mix({"audio": audio, "targets": both["targets"], "shift": shift})
    assert found.keys() == {"audio", "targets"} and found["audio"].dtype == np.int16
    np.testing.assert_array_equal(found["audio"][1], np.roll(audio[1], -25))


def test_shares_of_mix_up_are_beta_distributed(config):
    record = SimpleNamespace(bytes_list=SimpleNamespace(value=[b"dog"]))
    numbers = np.linspace(0.001, 0.999, 101)
    for alpha in (0.5, 1.0):
        task = make_task(dataclasses.replace(config, tagging=TaggingConfig(LABELS, mixup=alpha)))
        assert task.draws == 2
        found = [task.features({"labels": record}, [x, 0.0])["share"] for x in numbers]
        np.testing.assert_allclose(found, stats.beta.ppf(numbers, alpha, alpha), atol=1e-6)
    assert make_task(config).draws == 0
    with pytest.raises(ValueError, match="tagging.mixup must be >= 0"):
        TaggingConfig(mixup=-1.0)


def test_meshes_and_micro_batches_equal_one_device(config):
    """With mix-up, though the rows of a mixture come from two devices and two micro-batches."""
    config = dataclasses.replace(config, tagging=TaggingConfig(LABELS, mixup=0.5))
    batches = [_in_half(0), _in_half(1)]
    start = jax.device_get(init_state(config, some_mesh(1))).params
    expected = jax.device_get(run_steps(config, some_mesh(1), batches)[0].params)
    moved = norm(jax.tree.map(np.subtract, expected, start))
    split = MeshConfig(2, 4, split_above=100)
    for changes in ({"rows_per_device": 1}, {"mesh": split, "rows_per_device": 1, "remat": "full"}):
        other = dataclasses.replace(config, batch_size=16, **changes)
        mesh = make_mesh(other.mesh)
        state = jax.device_get(run_steps(other, mesh, batches)[0])
        assert norm(jax.tree.map(np.subtract, state.params, expected)) < 1e-4 * moved


def test_what_a_plan_counts(config):
    config = dataclasses.replace(config, tagging=TaggingConfig())
    task, mesh = make_task(config), some_mesh(1)
    shapes = batch_shapes(config, task, mesh)
    assert shapes["targets"].shape == (8, PLANNED)
    traced = make_train_step(config, mesh).trace(abstract_state(config, mesh), shapes)
    assert matrix_flops(traced.jaxpr) > 1e6
    assert activation_bytes(config, task, mesh) > 8 * PLANNED * 4


def test_it_resumes_bit_for_bit_with_labels_of_the_records(config, demo_records, tmp_path):
    """Dies in the second evaluation; the labels are those of the training split, sorted, and come
    equally often."""
    config = dataclasses.replace(config, tagging=TaggingConfig(balanced=True), eval_every=3)
    dies = [3]

    def evaluate(forward, variables, step):
        if step in dies:
            dies.remove(step)
            raise KeyboardInterrupt
        clips = np.ones((5, 16_000), np.int16)
        found = forward["audio"](variables, clips, np.full(5, 16_000, np.int32))
        assert found.shape == (5, 24)
        return {"score": float(np.asarray(found).sum())}

    arguments = {"data_dir": demo_records, "evaluate": evaluate}
    with pytest.raises(KeyboardInterrupt):
        train(config, workdir=tmp_path / "killed", **arguments)
    killed = train(config, workdir=tmp_path / "killed", **arguments)
    whole = train(config, workdir=tmp_path / "whole", **arguments)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(killed), jax.device_get(whole))
    scores = checkpoint.scores(tmp_path / "whole")
    assert list(scores) == [3, 6] and scores == checkpoint.scores(tmp_path / "killed")
    labels = workdir_labels(tmp_path / "whole")
    assert len(labels) == 24 and list(labels) == sorted(labels) and "dog bark" in labels
    assert [row["step"] for row in read_log(tmp_path / "killed")] == [0, 2, 3, 3, 4, 6, 6]


def test_records_without_labels(config, tmp_path):
    bare = [make_example(1, labels=())]
    data_dir = write_records(tmp_path / "records", {"train": bare})
    task = make_task(dataclasses.replace(config, tagging=TaggingConfig()))
    with pytest.raises(RecordsError, match="no record of the split 'train' has a label"):
        task.keep(data_dir, tmp_path)
    task = make_task(dataclasses.replace(config, tagging=TaggingConfig(("dog",), balanced=True)))
    with pytest.raises(RecordsError, match=r"'train' has one of tagging\.labels"):
        task.keep(data_dir, tmp_path)
    with pytest.raises(ValueError, match="one is there twice"):
        TaggingConfig(("dog", "dog"))


def test_one_label_shares_its_probability_with_none(config, tmp_path):
    """It would be learnt as always there."""
    data_dir = write_records(tmp_path / "records", {"train": [make_example(1, labels=("dog",))]})
    for labels in ((), ("dog",)):
        task = make_task(dataclasses.replace(config, tagging=TaggingConfig(labels, "ce")))
        with pytest.raises(ValueError, match=r"tagging\.loss=ce: 'dog' alone always has 100 %"):
            task.keep(data_dir, tmp_path)
        make_task(dataclasses.replace(config, tagging=TaggingConfig(labels))).keep(
            data_dir, tmp_path
        )


def test_reading_all_labels_says_how_far_it_is(config, tmp_path, monkeypatch, capsys):
    data_dir = write_records(tmp_path / "records", {"train": [make_example(i) for i in range(3)]})
    task = make_task(dataclasses.replace(config, tagging=TaggingConfig(balanced=True)))
    for seconds, told in ((float("inf"), ()), (-1.0, (1, 2, 3))):
        monkeypatch.setattr(label_index, "SHOWN", seconds)
        (tmp_path / tagging.BALANCE_FILE).unlink(missing_ok=True)
        task.keep(data_dir, tmp_path)
        said = [line for line in capsys.readouterr().err.splitlines() if "labels of" in line]
        assert said == [f"{data_dir}: labels of {index} of 3 records read" for index in told]


def test_which_records_have_a_label_is_looked_for_once(config, tmp_path, monkeypatch):
    """And again where the records, the split or the labels are other ones."""

    def task(split="train", **settings):
        data = dataclasses.replace(config.data, split=split)
        settings = TaggingConfig(balanced=True, **settings)
        return make_task(dataclasses.replace(config, data=data, tagging=settings))

    def looked(task, folder) -> bool:
        seen = []
        monkeypatch.setattr(tagging, "records_by_label", lambda *x: seen.append(x) or found(*x))
        task.keep(folder, tmp_path)
        return bool(seen)

    found = tagging.records_by_label
    labels = [("dog",), ("cat", "dog"), (), ("rain", "rain")]
    examples = [make_example(i, labels=x) for i, x in enumerate(labels)]
    splits = {"train": examples, "test": examples[:2]}
    folders = [write_records(tmp_path / name, splits, source=name) for name in "ab"]
    assert looked(task(), folders[0]) and not looked(task(), folders[0])
    balance = task().open(tmp_path).balance
    assert balance.counts.tolist() == [1, 2, 1] and balance.records.tolist() == [1, 0, 1, 3]
    assert looked(task(), folders[1]) and looked(task("test"), folders[1])
    assert task("test").open(tmp_path).balance.counts.tolist() == [1, 2]
    assert looked(task(labels=("rain", "cow", "dog")), folders[0])
    balance = task().open(tmp_path).balance
    assert workdir_labels(tmp_path) == ("rain", "cow", "dog")
    assert balance.counts.tolist() == [1, 2] and balance.records.tolist() == [3, 0, 1]
    # In between the labels alone were kept, which the file does not tell of.
    make_task(dataclasses.replace(config, tagging=TaggingConfig(("dog",)))).keep(
        folders[0], tmp_path
    )
    assert looked(task(labels=("rain", "cow", "dog")), folders[0])
    (tmp_path / tagging.BALANCE_FILE).write_bytes(b"PK")
    with pytest.raises(ValueError, match="balance.npz: missing or damaged"):
        task().open(tmp_path)


def test_labels_that_no_record_has_are_told(tmp_path, monkeypatch):
    """Fails where a label that is misspelt is learnt as never there, without a word."""
    examples = [make_example(i, labels=("dog", "rain")[: 1 + i % 2]) for i in range(4)]
    data_dir = write_records(tmp_path / "records", {"train": examples})
    assert label_doubts(data_dir, "train", ()) == label_doubts(data_dir, "train", ("rain",)) == []
    (line,) = label_doubts(data_dir, "train", ("dogs", "rain"))
    assert "none of 4 records has 1 of the 2 labels of tagging.labels (dogs)" in line
    assert line.endswith("the records have dog, rain")
    monkeypatch.setattr(doubts, "LOOKED_AT", 2)
    assert label_doubts(data_dir, "train", ("dogs", "dog")) == []
    assert len(label_doubts(data_dir, "train", ("dogs",))) == 1


@pytest.mark.parametrize("damaged", [None, "{", "[]", '{"dog": 1}', "[1, 2]"])
def test_damaged_labels_are_named(damaged, tmp_path):
    if damaged is not None:
        (tmp_path / "labels.json").write_text(damaged)
    with pytest.raises(ValueError, match=f"{tmp_path}/labels.json: (damaged|is missing)"):
        workdir_labels(tmp_path)
