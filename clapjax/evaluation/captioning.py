"""How near captions are to references: BLEU, ROUGE-L, CIDEr-D, and CLAP score.

As pycocoevalcap's scorers count, but for the words: those are lower-cased runs of letters and
digits with their apostrophes, where pycocoevalcap has the Penn Treebank tokeniser, a Java program,
split "dog's" and "don't" in two. So numbers can differ from its last digits.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from clapjax.captions.tables import read_captions
from clapjax.evaluation.benchmarks import Benchmark
from clapjax.evaluation.config import EvaluationConfig
from clapjax.evaluation.embed import Embedded
from clapjax.evaluation.ranks import unit_rows
from clapjax.evaluation.result import Metric, Result
from clapjax.evaluation.statistics import interval

ORDERS = 4  # the longest n-grams
WORD = re.compile(r"[^\W_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W_]+)*")
BETA = 1.2  # ROUGE-L: how much more recall counts than precision
BOUNDS = {"ROUGE-L": (0.0, 1.0), "CIDEr-D": (0.0, 10.0), "CLAP score": (-1.0, 1.0)}
SIGMA = 6.0  # CIDEr-D: of the penalty for another length, in words


def words(text: str) -> list[str]:
    """Lower-cased words, without punctuation."""
    return WORD.findall(text.lower())


def ngrams(tokens: Sequence[str], order: int) -> Counter:
    """How often each run of `order` words occurs."""
    return Counter(zip(*(tokens[i:] for i in range(order)), strict=False))


def bleu_counts(candidates, references) -> np.ndarray:
    """What BLEU adds up, sentence by sentence.

    Args:
      candidates: n lists of words.
      references: n lists of lists of words.

    Returns:
      (n, 10) int64: words, words of the reference of the nearest length (the shorter of two), then
      of 1-, 2-, 3- and 4-grams how many are right (each as often as some reference has it), then
      how many there are.
    """
    rows = []
    for tokens, others in zip(candidates, references, strict=True):
        nearest = min((abs(len(other) - len(tokens)), len(other)) for other in others)[1]
        right = []
        for order in range(1, ORDERS + 1):
            most = Counter()
            for other in others:
                most |= ngrams(other, order)
            right.append((ngrams(tokens, order) & most).total())
        there = [max(len(tokens) - order, 0) for order in range(ORDERS)]
        rows.append([len(tokens), nearest, *right, *there])
    return np.array(rows, np.int64)


def bleu(counts: np.ndarray, order: int = ORDERS) -> float:
    """Corpus BLEU (Papineni et al., 2002): geometric mean of the precisions, brevity penalty.

    Args:
      counts: (n, 10) of `bleu_counts`.
      order: the longest n-grams, 1 to 4.

    Returns:
      In 0..1; 0 where no n-gram of an order is right.
    """
    length, wanted, *rest = counts.sum(0)
    right, there = np.array(rest[:order]), np.array(rest[ORDERS : ORDERS + order])
    if not right.all():
        return 0.0
    penalty = min(0.0, 1 - wanted / length)
    return float(np.exp(np.mean(np.log(right / there)) + penalty))


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for i, against in enumerate(other, 1):
            before, lengths[i] = (
                lengths[i],
                before + 1 if word == against else max(lengths[i], lengths[i - 1]),
            )
    return lengths[-1]


def rouge_l(candidates, references) -> np.ndarray:
    """ROUGE-L (Lin, 2004): F of the longest common subsequence, recall counting 1.2 times.

    Precision and recall are each those of the best reference.

    Args:
      candidates: n lists of words.
      references: n lists of lists of words, none of them empty.

    Returns:
      (n,) float64 in 0..1.
    """
    scores = []
    for tokens, others in zip(candidates, references, strict=True):
        common = [common_subsequence(tokens, other) for other in others]
        if not any(common):
            scores.append(0.0)
            continue
        precision = max(common) / len(tokens)
        recall = max(c / len(other) for c, other in zip(common, others, strict=True))
        scores.append((1 + BETA**2) * precision * recall / (recall + BETA**2 * precision))
    return np.array(scores)


def cider_d(candidates, references) -> np.ndarray:
    """CIDEr-D (Vedantam et al., 2015): likeness of tf-idf weighted n-grams, 1 to 4, times 10.

    An n-gram's weight is its count times log(sentences / sentences with it in some reference), so
    that one sentence alone scores 0, and the score depends on which others are in the set.

    Args:
      candidates: n lists of words.
      references: n lists of lists of words.

    Returns:
      (n,) float64 in 0..10.
    """
    total = np.zeros(len(candidates))
    for order in range(1, ORDERS + 1):
        seen = [[ngrams(other, order) for other in others] for others in references]
        frequency = Counter(gram for others in seen for gram in set().union(*others))

        def vector(counts, frequency=frequency):
            weights = {
                gram: count * np.log(len(candidates) / max(1, frequency[gram]))
                for gram, count in counts.items()
            }
            return weights, np.sqrt(sum(w * w for w in weights.values()))

        for i, (tokens, others) in enumerate(zip(candidates, references, strict=True)):
            mine, norm = vector(ngrams(tokens, order))
            for other, counts in zip(others, seen[i], strict=True):
                theirs, their_norm = vector(counts)
                if norm == 0 or their_norm == 0:
                    continue
                # Clipped: a word said more often than the reference says it gains nothing.
                likeness = sum(min(w, theirs.get(g, 0)) * theirs.get(g, 0) for g, w in mine.items())
                gap = len(tokens) - len(other)
                penalty = np.exp(-(gap**2) / (2 * SIGMA**2))
                total[i] += likeness / (norm * their_norm) * penalty / len(others)
    return 10 * total / ORDERS


def clap_score(audio, text) -> np.ndarray:
    """Cosine of every clip and its caption.

    Args:
      audio, text: (n, D) float32, unit length.

    Returns:
      (n,) float64 in -1..1.

    Raises:
      ValueError: bad embeddings, or shapes that differ.
    """
    audio, text = unit_rows("audio", audio), unit_rows("text", text)
    if audio.shape != text.shape:
        raise ValueError(f"shapes differ: audio {audio.shape}, text {text.shape}")
    return np.einsum("nd,nd->n", audio, text, dtype=np.float64)


def captioning(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    embeddings: tuple[np.ndarray, np.ndarray] | None = None,
    others: Mapping[str, tuple[Callable, tuple[float, float]]] | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
) -> tuple[dict[str, Metric], dict[str, np.ndarray]]:
    """All scores of captions.

    Args:
      candidates: n captions.
      references: n lists of at least one caption.
      embeddings: of the n clips and the n candidates, for the CLAP score.
      others: name to a function of (candidates, references) that gives n scores, such as a SPICE or
        FENSE that the user has installed, and the least and greatest score.
      groups: (n,) recordings that stay together in the intervals.
      seed: of the intervals.

    Returns:
      (metrics: "BLEU-1" to "BLEU-4", "ROUGE-L", "CIDEr-D", "CLAP score" and others,
      items: (n,) scores each; "BLEU-4" of one caption alone).

    Raises:
      ValueError: a candidate without a reference, a reference without a word, other lengths, or
        scores that are not n finite numbers.
    """
    if not candidates or len(candidates) != len(references):
        raise ValueError(f"captions: {len(candidates)} for {len(references)} clips' references")
    for i, texts in enumerate(references):
        if isinstance(texts, str) or not texts or not all(map(words, texts)):
            raise ValueError(f"references of caption {i}: a list of sentences, not {texts!r}")
    said = [words(text) for text in candidates]
    wanted = [[words(text) for text in texts] for texts in references]

    counts = bleu_counts(said, wanted)
    items = {"ROUGE-L": rouge_l(said, wanted), "CIDEr-D": cider_d(said, wanted)}
    if embeddings is not None:
        items["CLAP score"] = clap_score(*embeddings)
    bounds = dict(BOUNDS)
    for name, (score, bounds[name]) in (others or {}).items():
        items[name] = np.asarray(score(candidates, references), np.float64)
    for name, scores in items.items():
        if scores.shape != (len(said),) or not np.isfinite(scores).all():
            raise ValueError(f"{name}: expected {len(said)} finite scores, got {scores.shape}")

    metrics = {
        f"BLEU-{order}": interval(
            counts, lambda c, order=order: bleu(c, order), groups, method="jackknife", seed=seed
        )
        for order in range(1, ORDERS + 1)
    }
    metrics |= {
        name: interval(scores, "mean", groups, bounds[name]) for name, scores in items.items()
    }
    return metrics, {"BLEU-4": np.array([bleu(row[None]) for row in counts])} | items


def lacks(benchmark: Benchmark) -> str:
    """What a benchmark lacks for this task; "" for nothing."""
    bare = sum(not clip.captions for clip in benchmark.clips)
    return f"{bare} clips of the split {benchmark.split!r} have no caption" if bare else ""


def run(embedded: Embedded, settings: EvaluationConfig) -> list[Result]:
    """Judges the captions of the table `settings.captions` against the clips' own.

    Raises:
      ValueError: no table is named, it cannot be read, one of its rows has no caption, or none of
        its ids is of a clip.
    """
    if not settings.captions:
        raise ValueError("captioning: name a table with --config.evaluation.captions=FILE")
    said = {}
    for row in read_captions(settings.captions):
        if not row.captions:  # to leave it out is not for us to decide: it would raise the scores
            raise ValueError(f"{row.place}: no caption; remove the row")
        said[row.id] = row.captions[0]
    clips = embedded.benchmark.clips
    rows = [index for index, clip in enumerate(clips) if clip.id in said]
    if not rows:
        example = f"; the clips are called {clips[0].id!r} and so on"
        raise ValueError(f"{settings.captions}: no id of it is of a clip{example}")
    candidates = [said[clips[index].id] for index in rows]
    metrics, items = captioning(
        candidates,
        [clips[index].captions for index in rows],
        embeddings=(embedded.audio[rows], embedded.embed_text(candidates)),
    )
    items |= {"id": np.array([clips[index].id for index in rows]), "caption": np.array(candidates)}
    return [embedded.result("captioning", None, metrics, items, captions=settings.captions)]
