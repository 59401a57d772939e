"""Records with an order probe: what it asks of is in no training record, whatever the source."""

import itertools
import json
import re

import numpy as np
import pytest

from clapjax.captions.unseen import CONNECTIVES, PARAPHRASES
from clapjax.data.build.builder import build_records
from clapjax.data.build.config import LATER, SourceConfig, used_settings, written_settings
from clapjax.data.checking import check
from clapjax.data.config import DataConfig
from clapjax.data.records import BUILD_FILE, read_build, read_examples
from clapjax.evaluation.benchmarks import load_benchmark
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import embed_dataset
from clapjax.evaluation.order import run
from clapjax.synthesis.mixup import MixupConfig
from tests.data.miniature import RATE, write_audio, write_table
from tests.evaluation.models import Numbers

CLASSES = [f"sound {letter}" for letter in "abcdef"]
SYNTHESIS = MixupConfig(
    train_mixtures=150, test_mixtures=12, crops_per_recording=1, clip_seconds=0.6, max_events=3,
    min_event_seconds=0.1, max_event_seconds=0.2, max_crossfade_seconds=0.05, captions=1,
    overlap_share=0.3, probe_mixtures=24,
)  # fmt: skip


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("probe")
    rows = []
    for number in range(12):
        write_audio(root / "set" / f"{number}.wav", number)
        rows.append((f"{number}.wav", "test" if number > 5 else "train", CLASSES[number % 6]))
    write_table(root / "set" / "all.csv", rows, "file,split,labels")
    source = SourceConfig(kind="folder", path=str(root / "set"), mode="mixup")
    data = DataConfig(vocab_size=300)
    build_records(source, SYNTHESIS, data, seed=0, sample_rate=RATE, data_dir=root / "d")
    return root / "d"


@pytest.fixture(scope="module")
def examples(data_dir):
    return {
        split: list(read_examples(data_dir, split)) for split in ("train", "test", "test_probe")
    }


def pairs_in(examples, what="") -> set[frozenset]:
    """Pairs of classes that are together in a record."""
    return {
        frozenset(pair)
        for example in examples
        if what in example.provenance
        for pair in itertools.combinations(example.labels, 2)
    }


def sentences(examples, what="") -> set[str]:
    """Captions without what the events are."""
    event = r"((a|the) sound of )?sound [a-f]"
    return {
        re.sub(event, "e", caption.lower())
        for example in examples
        if what in example.provenance
        for caption in example.captions + example.negative_captions
    }


def test_the_probe_is_in_no_other_split(data_dir, examples):
    assert check(data_dir) == []
    assert read_build(data_dir)["counts"]["test_probe"] == 24 * 4  # pair, two wordings, 3 events
    apart = pairs_in(examples["test_probe"], "probe:pair")
    assert len(apart) == 3 and len(frozenset.union(*apart)) == 6
    others = {frozenset(pair) for pair in itertools.combinations(CLASSES, 2)} - apart
    assert pairs_in(examples["train"]) == others  # all other pairs, of two, three, or at once
    assert not pairs_in(examples["test"]) & apart
    unseen = {
        re.sub(r"\{\w\}", "e", template)
        for part in (CONNECTIVES, PARAPHRASES)
        for told in part.values()
        for template in told
    }
    asked = sentences(examples["test_probe"], ":forwards")
    asked |= sentences(examples["test_probe"], ":backwards")
    assert asked <= unseen and len(asked) > 15
    for split in ("train", "test"):
        assert not sentences(examples[split]) & unseen
    heard = {label for example in examples["train"] for label in example.labels}
    assert heard == set(CLASSES)


def test_t_classify_of_the_test_split_reports_the_probe(data_dir):
    model = Numbers()
    model.embed_text = lambda texts: np.stack([model._row(sum(map(ord, t)) % 300) for t in texts])
    found = run(embed_dataset(model, load_benchmark("d", data_dir), "m"), EvaluationConfig())
    metrics = {next(iter(result.metrics)): result for result in found}
    parts = {name: result.n for name, result in metrics.items() if "text_to_audio/probe" in name}
    assert parts == {
        "text_to_audio/probe=connective": 24,
        "text_to_audio/probe=connective:backwards": 12,
        "text_to_audio/probe=connective:forwards": 12,
        "text_to_audio/probe=events=3": 24,
        "text_to_audio/probe=pair": 24,
        "text_to_audio/probe=paraphrase": 24,
        "text_to_audio/probe=paraphrase:backwards": 12,
        "text_to_audio/probe=paraphrase:forwards": 12,
    }
    assert len(metrics) == len(found)  # none of the probe has the name of one of the test split
    probed = metrics["text_to_audio/probe=pair"]
    assert probed.chance == 0.5 and probed.provenance["split"] == "test_probe"
    assert metrics["text_to_audio"].provenance["split"] == "test"
    alone = load_benchmark("d", data_dir, "test_probe")
    alone = {
        next(iter(r.metrics)): r for r in run(embed_dataset(model, alone, "m"), EvaluationConfig())
    }
    assert alone["text_to_audio"].n == 24 * 4
    assert alone["text_to_audio/probe=pair"].metrics == probed.metrics


def test_records_without_a_probe_are_described_as_they_were(data_dir):
    """So that the same settings keep their build_id."""
    assert not written_settings(MixupConfig()).keys() & set(LATER)
    build = json.loads((data_dir / BUILD_FILE).read_text())
    assert build["synthesis"]["probe_mixtures"] == 24 and "queries" not in build["synthesis"]
    assert used_settings(build)["synthesis"]["probe_mixtures"] == 24
