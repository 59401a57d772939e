import numpy as np
import pytest

from clapjax.evaluation.captioning import (
    bleu,
    bleu_counts,
    captioning,
    cider_d,
    clap_score,
    common_subsequence,
    rouge_l,
    words,
)

CANDIDATES = [
    "A dog barks and a man speaks",
    "rain falls",
    "birds chirp birds chirp birds chirp while wind blows",
    "a car passes by as people are talking in the background and music is playing",
    "silence",
]
REFERENCES = [
    ["A dog barks, then a man is speaking.", "A man speaks after a dog barks"],
    ["Rain falls on a roof", "heavy rain is falling", "rain falls"],
    ["Birds chirp and wind blows", "Several birds chirp in the wind"],
    ["A car passes by while people talk", "People are talking and a car drives past"],
    ["An engine idles", "a truck engine is running"],
]
SAID = [words(text) for text in CANDIDATES]
WANTED = [[words(text) for text in texts] for texts in REFERENCES]

# What pycocoevalcap's numpy scorers (salaniz/pycocoevalcap at ad63453, bleu_scorer.py with the
# closest reference, cider_scorer.py, rouge.py) give for these words.
BLEU = [0.588235294100346, 0.49336366697923567, 0.36513610131047913, 0.2168879432650933]
CIDER = [4.0017700799854445, 2.8696959514850224, 1.0885315320012634, 1.1813902438739992, 0.0]
ROUGE = [0.6587473002159828, 1.0, 0.6024691358024692, 0.4864433811802232, 0.0]


def test_equals_pycocoevalcap():
    counts = bleu_counts(SAID, WANTED)
    assert [bleu(counts, order) for order in (1, 2, 3, 4)] == pytest.approx(BLEU, abs=1e-8)
    assert cider_d(SAID, WANTED) == pytest.approx(CIDER)
    assert rouge_l(SAID, WANTED) == pytest.approx(ROUGE)


def test_bleu_of_the_papers_examples():
    """Papineni et al. (2002), section 2.1: precisions 2/7, 17/18 and 8/14; 10/17 and 1/13."""
    the = ["The cat is on the mat.", "There is a cat on the mat."]
    guide = [
        "It is a guide to action that ensures that the military will forever heed Party commands.",
        "It is the guiding principle which guarantees the military forces always being under the "
        "command of the Party.",
        "It is the practical guide for the army always to heed the directions of the party.",
    ]
    one = "It is a guide to action which ensures that the military always obeys the commands of "
    two = "It is to insure the troops forever hearing the activity guidebook that party direct."
    for text, references, right, there in (
        ("the the the the the the the.", the, [2, 0], [7, 6]),
        (one + "the party.", guide, [17, 10], [18, 17]),
        (two, guide, [8, 1], [14, 13]),
    ):
        (row,) = bleu_counts([words(text)], [[words(reference) for reference in references]])
        assert row[2:4].tolist() == right and row[6:8].tolist() == there
    # Its BLEU-4 as NLTK's documentation of sentence_bleu prints it.
    counts = bleu_counts([words(one + "the party.")], [[words(text) for text in guide]])
    assert bleu(counts) == pytest.approx(0.5045666840058485)


def test_rouge_of_the_papers_example():
    """Lin (2004), section 3.1: 3/4 and 2/4, precision and recall alike."""
    references = [[words("police killed the gunman")]] * 2
    said = [words("police kill the gunman"), words("the gunman kill police")]
    assert rouge_l(said, references) == pytest.approx([3 / 4, 2 / 4])


def test_common_subsequence_against_all_subsequences():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = (list(rng.integers(0, 3, 8)) for _ in range(2))
        within = {
            tuple(x for i, x in enumerate(other) if kept >> i & 1)
            for kept in range(2 ** len(other))
        }
        longest = max(
            bin(kept).count("1")
            for kept in range(2 ** len(one))
            if tuple(x for i, x in enumerate(one) if kept >> i & 1) in within
        )
        assert common_subsequence(one, other) == longest


def test_words():
    assert words("A dog's bark, DON'T stop... 3 times - (café)!") == [
        *["a", "dog's", "bark", "don't", "stop", "3", "times", "café"]
    ]


def test_a_perfect_set_and_an_empty_caption():
    texts = ["a dog barks in the rain", "two people talk on a street", "an engine starts and stops"]
    metrics, items = captioning(texts, [[text] for text in texts])
    assert [metrics[f"BLEU-{n}"].value for n in (1, 2, 3, 4)] == [1, 1, 1, 1]
    assert items["CIDEr-D"] == pytest.approx([10, 10, 10]) and items["ROUGE-L"].tolist() == [
        1,
        1,
        1,
    ]
    _, items = captioning(["", texts[1]], [[text] for text in texts[:2]])
    assert items["BLEU-4"].tolist() == [0, 1] and items["ROUGE-L"].tolist() == [0, 1]


def test_all_scores_have_intervals_and_items():
    rng = np.random.default_rng(0)
    audio, text = rng.normal(size=(2, 5, 8))
    audio, text = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (audio, text))
    lengths = {"length": (lambda said, _: [len(text) for text in said], (0, 99))}
    metrics, items = captioning(
        CANDIDATES, REFERENCES, (audio, text), lengths, groups=[0, 0, 1, 2, 3]
    )
    assert list(metrics) == [
        *(f"BLEU-{n}" for n in (1, 2, 3, 4)),
        *("ROUGE-L", "CIDEr-D", "CLAP score", "length"),
    ]
    for name in ("ROUGE-L", "CIDEr-D", "CLAP score", "length"):
        assert metrics[name].value == pytest.approx(items[name].mean())
        assert metrics[name].low < metrics[name].value < metrics[name].high
    assert items["CLAP score"] == pytest.approx([a @ t for a, t in zip(audio, text, strict=True)])
    assert metrics["BLEU-4"].value == pytest.approx(BLEU[3], abs=1e-8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], []), "0 for 0"),
        ((["a"], []), "1 for 0"),
        ((["a"], ["b"]), "references of caption 0: a list of sentences, not 'b'"),
        ((["a"], [[]]), "references of caption 0"),
        ((["a", "b"], [["a"], ["?!"]]), "references of caption 1"),
        (
            (["a"], [["b"]], None, {"mine": (lambda *_: [np.nan], (0, 1))}),
            "mine: expected 1 finite",
        ),
        (
            (["a"], [["b"]], None, {"mine": (lambda *_: [1, 2], (0, 1))}),
            r"mine: expected 1 .* got \(2,\)",
        ),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        captioning(*arguments)


def test_clap_scores_of_unlike_shapes():
    with pytest.raises(ValueError, match="shapes differ"):
        clap_score(np.eye(3), np.eye(3)[:2])
