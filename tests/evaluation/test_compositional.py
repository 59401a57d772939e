"""Queries among distractors: pools, ranks, ties, chance, and from records to results."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata

from clapjax.data.build.builder import build_records
from clapjax.data.build.config import SourceConfig
from clapjax.data.checking import check
from clapjax.data.config import DataConfig
from clapjax.data.records import read_examples
from clapjax.evaluation import compositional, groups
from clapjax.evaluation.benchmarks import Judged, load_benchmark, load_tasks, settings_for
from clapjax.evaluation.compositional import find_queries
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.evaluate import LACKS, evaluate
from clapjax.evaluation.result import read_results, write_results
from clapjax.synthesis.compositional import KINDS
from clapjax.synthesis.mixup import MixupConfig
from tests.data.miniature import write_audio, write_table
from tests.evaluation.models import RATE, Numbers, benchmark, embedded, unit


def pool(name, size, kind="order") -> list[Judged]:
    """A clip that is asked for, and its distractors."""
    return [
        Judged(
            id=f"{name}/{place:02d}",
            captions=(f"{name} {place}",),
            kinds=(f"probe:{kind}",),
            negative_captions=(f"{name} 0",) if place else (),
            negative_kinds=(f"probe:{kind}",) if place else (),
            origin=name,
        )
        for place in range(size)
    ]


def found(clips, audio, texts) -> dict:
    results = compositional.run(embedded(clips, audio, texts), EvaluationConfig())
    assert all(result.task == "compositional" for result in results)
    return {name: result for result in results for name in result.metrics}


def texts_of(clips, vectors) -> dict:
    return dict(zip((clip.captions[0] for clip in clips), vectors, strict=True))


def test_ranks_by_scipy():
    clips = [clip for i in range(60) for clip in pool(f"order/{i}", 7)]
    clips += [clip for i in range(30) for clip in pool(f"mix/{i}", 4, "mix")]
    audio = unit(len(clips), 6)
    texts = texts_of(clips, unit(len(clips), 6, seed=1))
    results = found(clips, audio, texts)
    for kind, count, size, first in (("order", 60, 7, 0), ("mix", 30, 4, 420)):
        ranks = []
        for at in range(first, first + count * size, size):
            scores = audio[at : at + size].astype(float) @ texts[clips[at].captions[0]].astype(
                float
            )
            ranks.append(rankdata(-scores, "max")[0])
        ranks = np.array(ranks)
        one = results[f"{kind}/R@1"]
        assert one.items["rank"].tolist() == ranks.tolist()
        assert one.items["pool"].tolist() == [size] * count
        assert one.metrics[f"{kind}/R@1"].value == np.mean(ranks == 1)
        assert one.metrics[f"{kind}/median_rank"].value == np.median(ranks)
        assert one.n == count and one.chance == pytest.approx(1 / size)
    assert results["order/R@1"].metrics["order/R@5"].value == np.mean(
        results["order/R@1"].items["rank"] <= 5
    )
    assert "mix/R@5" not in results  # of four


def test_chance_is_that_of_random_embeddings():
    clips = [clip for i in range(2000) for clip in pool(f"{i}", 5)]
    results = found(clips, unit(len(clips), 8), texts_of(clips, unit(len(clips), 8, seed=1)))
    for name in ("order/R@1", "order/text", "order/audio", "order/group"):
        one = results[name]
        error = np.sqrt(one.chance * (1 - one.chance) / one.n)
        assert abs(one.metrics[name].value - one.chance) < 4 * error


def test_ties_are_wrong():
    clips = pool("a", 3)
    results = found(clips, [(1, 0)] * 3, texts_of(clips, [(1, 0)] * 3))
    for name in ("order/R@1", "order/text", "order/audio", "order/group"):
        assert results[name].metrics[name].value == 0
    assert results["order/R@1"].items["rank"].tolist() == [3]


def test_scores_of_groups_are_of_the_first_distractor():
    clips = [clip for i in range(50) for clip in pool(f"{i}", 4)]
    audio, text = unit(200, 5), unit(200, 5, seed=1)
    results = found(clips, audio, texts_of(clips, text))
    for at in range(0, 200, 4):
        both = [at, at + 1]
        to_text, to_audio = groups.group_margins(audio[both], text[both])
        for name, margin in (("text", to_text), ("audio", to_audio)):
            item = results[f"order/{name}"].items
            assert item["margin"][at // 4] == pytest.approx(margin)
            assert item["right"][at // 4] == (margin > 0)


def test_a_query_is_asked_in_its_own_pool_alone():
    """Though another pool has its caption."""
    one, other = pool("a", 3), pool("b", 3)
    clips = [*one, *(Judged(**vars(clip) | {"captions": ("a 0",)}) for clip in other)]
    queries = find_queries(tuple(clips))
    assert [(query.caption, query.right, query.wrong) for query in queries] == [("a 0", 0, (1, 2))]


def test_what_it_needs():
    alone = Judged(id="a/0", captions=("x",), kinds=("human",))
    assert "configs/compositional.py" in compositional.lacks(benchmark([alone]))
    assert compositional.lacks(benchmark(pool("a", 2))) == ""
    assert settings_for("mini", EvaluationConfig()).tasks == ("compositional",)


def test_the_failure_that_is_shown_is_the_worst():
    clips = [*pool("a", 3), *pool("b", 3)]
    audio = [(1, 0), (0.6, 0.8), (0, 1)] * 2
    texts = texts_of(clips, [(1, 0)] * 3 + [(0, 1)] * 3)
    (shown,) = found(clips, audio, texts)["order/R@1"].examples
    right, taken = shown.sounds
    assert (right.clip, taken.clip) == ("b/00", "b/02")
    assert (right.said[0].score, taken.said[0].score) == (0.0, 1.0)


def test_from_a_folder_of_sounds_to_results(tmp_path):
    """Own sounds with labels: built, checked, judged, kept with what happened to each query."""
    root = tmp_path / "set"
    rows = [(f"{i}.wav", "test", f"class {i % 3}") for i in range(6)]
    for i in range(6):
        write_audio(root / f"{i}.wav", i)
    write_table(root / "all.csv", rows, "file,split,labels")
    synthesis = MixupConfig(
        queries=2, distractors=3, clip_seconds=0.8, max_gap_seconds=0.05,
        min_event_seconds=0.2, max_event_seconds=0.3, max_crossfade_seconds=0.0,
    )  # fmt: skip
    source = SourceConfig(kind="folder", path=str(root), mode="compositional")
    data = DataConfig(vocab_size=300)
    settings = {"seed": 0, "sample_rate": RATE, "data_dir": tmp_path / "d"}
    assert build_records(source, synthesis, data, **settings).counts == {"test": 5 * 2 * 4}
    assert build_records(source, synthesis, data, **settings).reused
    assert check(tmp_path / "d") == []
    examples = list(read_examples(tmp_path / "d", "test"))
    assert {example.audio.size for example in examples} == {int(0.8 * RATE)}

    asked = settings_for("mini", EvaluationConfig())
    tasks, left_out = load_tasks("mini", tmp_path / "d", asked, LACKS)
    assert left_out == []
    model = Numbers()
    model.embed_text = lambda texts: np.stack([model._row(len(text)) for text in texts])
    results = evaluate(model, "numbers", tasks, asked)
    write_results(tmp_path, results)
    kept = [r for r in read_results(tmp_path) if next(iter(r.metrics)).endswith("/R@1")]
    assert [next(iter(r.metrics)) for r in kept] == [f"{kind}/R@1" for kind in KINDS]
    for result in kept:
        assert (result.n, result.chance) == (2, 0.25)
        assert set(result.items["pool"]) == {4} and set(result.items["rank"]) <= {1, 2, 3, 4}
    settings["data_dir"] = tmp_path / "e"
    with pytest.raises(ValueError, match="must be over twice synthesis.max_gap_seconds"):
        build_records(source, replace(synthesis, max_gap_seconds=0.4), data, **settings)
    (root / "all.csv").write_text("file,split,labels\n0.wav,test,a\n1.wav,test,b\n")
    with pytest.raises(ValueError, match="2 classes; 3 classes are needed$"):
        build_records(source, synthesis, data, **settings)
    (root / "all.csv").write_text("file,labels\n0.wav,a\n1.wav,b\n")
    with pytest.raises(ValueError, match="0 classes; 3 classes are needed; source.whole=test"):
        build_records(source, synthesis, data, **settings)
    assert load_benchmark("mini", tmp_path / "d").split == "test"
