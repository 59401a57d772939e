"""An index beside numpy: exact and approximate, in memory and mapped, of both kinds of rows."""

import dataclasses
import functools
import json
import shutil

import numpy as np
import pytest

import clapjax
from benchmarks.made_vectors import Made
from clapjax.data.paths import locked
from clapjax.inference import lists, store
from clapjax.inference.index import ABOUT, Index, combine
from clapjax.inference.lists import exact_near, exact_search, recall
from clapjax.inference.store import Table

ROWS, SIZE, TEXTS = 6000, 16, 40
faiss = pytest.importorskip("faiss", reason="the extra `index` is not installed")


def parts(rows: int = ROWS, texts: int = TEXTS, times: bool = False) -> list[Table]:
    """A library in two tables, of sounds and texts by turns; five sounds come twice.

    And some come almost so, at a cosine of about 0.99.
    """
    made = Made(SIZE)
    sounds, words = made.block(0, rows), made.queries("words", texts)
    almost = rows // 20
    sounds[-almost:] = lists._unit(sounds[:almost] + 0.15 * made.block(1, almost))
    sounds[rows - 5 :] = sounds[:5]
    vectors = np.concatenate([sounds[: rows // 2], words, sounds[rows // 2 :]])
    kinds = ["audio"] * (rows // 2) + ["text"] * texts + ["audio"] * (rows - rows // 2)
    names = [f"Größe {number}.wav" for number in range(len(kinds))]
    seconds = np.stack([np.arange(len(kinds)) + 0.5, np.arange(len(kinds)) + 1.5], axis=1)
    seconds[np.array(kinds) == "text"] = np.nan
    prints, cut = {"audio": "0" * 32, "text": "1" * 32}, rows // 2 + texts // 2
    return [
        Table(
            vectors[part], names[part], kinds[part], "m", prints, seconds[part] if times else None
        )
        for part in (slice(0, cut), slice(cut, None))
    ]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder of Parquet parts with times."""
    folder = tmp_path_factory.mktemp("library")
    for number, part in enumerate(parts(times=True)):
        store.write_table(folder / f"parts-{number:05d}.parquet", part)
    return folder


@pytest.fixture(scope="module")
def built(library, tmp_path_factory):
    """The same library with lists, made in several shards, and moved to another place since."""
    place = tmp_path_factory.mktemp("built")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "SHARD", 2048)
        patch.setattr(lists, "BLOCK", 500)
        Index.build(library, place / "made.index", approximate=True)
    shutil.move(place / "made.index", place / "library.index")
    return place / "library.index"


def brute_force(vectors, query, top):
    scores = vectors.astype(np.float64) @ query.astype(np.float64)
    order = np.argsort(-scores, kind="stable")[:top]
    return order.tolist(), scores[order]


def test_exact_search_is_the_dot_product(monkeypatch):
    """Whatever the number of rows is to the size of a block, and to `top`."""
    made = Made(SIZE)
    queries = made.queries("sounds", 3)
    for rows, block, top in ((1, 7, 5), (20, 7, 5), (21, 7, 30), (50, 7, 1), (50, 100, 9)):
        monkeypatch.setattr(lists, "BLOCK", block)
        vectors = made.block(0, rows)
        for query, (found, scores) in zip(
            queries, exact_search(vectors, queries, top), strict=True
        ):
            expected = brute_force(vectors, query, top)
            assert found.tolist() == expected[0]
            np.testing.assert_allclose(scores, expected[1], atol=1e-6)


@pytest.mark.parametrize("kind", [None, "audio", "text"])
@pytest.mark.parametrize("place", ["library", "built"])
def test_hits_are_the_nearest_rows(request, library, place, kind):
    """Of a folder of parts and of an index alike, with the names and times that were embedded."""
    index, table = Index(request.getfixturevalue(place)), store.read_table(library)
    assert len(index) == ROWS + TEXTS and index.fingerprints == table.fingerprints
    rows = [row for row, found in enumerate(table.kinds) if kind in (None, found)]
    queries = Made(SIZE).queries("words", 4)
    results = index.search(queries, 7, kind, exact=True)
    for query, hits in zip(queries, results, strict=True):
        order, scores = brute_force(table.vectors[rows], query, 7)
        np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-6)
        for hit, at in zip(hits, order, strict=True):
            row = rows[at]
            assert (hit.name, hit.kind) == (table.names[row], table.kinds[row])
            np.testing.assert_array_equal(index.vectors(hit.kind)[hit.row], table.vectors[row])
            times = [None, None] if hit.kind == "text" else table.times[row].tolist()
            assert [hit.start, hit.end] == times
    (alone,) = index.search(queries[0], 7, kind, exact=True)
    assert [hit.name for hit in alone] == [hit.name for hit in results[0]]


def test_lists_find_what_they_say(built):
    """Recall on questions that were not asked when it was measured; scores are exact."""
    index = Index(built)
    about = index.about["audio"]
    assert min(about["recall"].values()) >= lists.RECALL and about["probe"] < about["lists"]
    vectors = index.vectors()
    for kind in ("sounds", "words"):
        queries = Made(SIZE, seed=0).queries(kind, 100)
        exact = [scores for _, scores in exact_search(vectors, queries, 10)]
        results = index.search(queries, 10, "audio")
        scores = [np.array([hit.score for hit in hits]) for hits in results]
        assert recall(scores, exact) > 0.97
        (alone,) = index.search(queries[0], 10, "audio")
        assert [hit.row for hit in alone] == [hit.row for hit in results[0]]
        for query, hits, found in zip(queries, results, scores, strict=True):
            rows = [hit.row for hit in hits]
            np.testing.assert_allclose(found, vectors[rows] @ query, atol=1e-6)


def test_every_row_is_in_a_list(built):
    """Read whole, the lists find what comparing with every row finds: none is lost or doubled."""
    index = Index(built)
    opened, queries = index._lists["audio"], Made(SIZE).queries("words", 20)
    assert opened._index.ntotal == ROWS
    found = opened.search(queries, 10, opened.count)
    for (rows, _), (expected, _) in zip(
        found, exact_search(index.vectors(), queries, 10), strict=True
    ):
        assert rows.tolist() == expected.tolist()
    for number in range(0, ROWS, 97):
        assert index.search(index.vectors()[number], 1, "audio")[0][0].score > 1 - 1e-5


@pytest.mark.parametrize("place", ["library", "built"])
def test_near_duplicates(request, place, monkeypatch):
    monkeypatch.setattr(lists, "NEAR", 700)
    index = Index(request.getfixturevalue(place))
    pairs = [(first.row, second.row) for first, second in index.duplicates(0.9999)]
    assert pairs == [(ROWS - 5 + number, number) for number in range(5)]
    vectors = index.vectors()
    late, early = np.nonzero(np.tril(vectors @ vectors.T >= 0.97, -1))
    found = {(one.row, two.row): one.score for one, two in index.duplicates(0.97)}
    missed = set(zip(late.tolist(), early.tolist(), strict=True)) - found.keys()
    assert len(late) > 200 and len(missed) <= (0 if place == "library" else 0.02 * len(late))
    for (one, two), score in found.items():
        assert score == pytest.approx(vectors[one] @ vectors[two], abs=1e-5)


def test_near_rows_across_blocks(monkeypatch):
    monkeypatch.setattr(lists, "BLOCK", 7)
    vectors = Made(8).block(0, 60)
    pairs = [exact_near(vectors, start, min(start + 11, 60), 0.8)[0] for start in range(0, 60, 11)]
    expected = np.argwhere(np.tril(vectors @ vectors.T >= 0.8, -1))
    found = np.concatenate(pairs)
    assert len(expected) > 5
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, expected.tolist()))


def test_equally_near_rows_are_found_too():
    """Half of a library of silence: which of its rows are found does not matter."""
    found = [np.array([1, 1, 0.5]), np.array([0.9, 0.8])]
    exact = [np.array([1, 1, 1]), np.array([0.9, 0.8, 0.7])]
    assert recall(found, exact) == pytest.approx(2 / 3)


def test_combine():
    """More of one, less of the other: in proportion to the weighted sum of cosines."""
    rain, thunder, row = Made(SIZE).block(0, 3)
    query = combine([rain, thunder], [1, -0.5])
    assert np.linalg.norm(query) == pytest.approx(1, abs=1e-6)
    ratio = (query @ row) / (rain @ row - 0.5 * (thunder @ row))
    assert ratio == pytest.approx(1 / np.linalg.norm(rain - 0.5 * thunder), rel=1e-4)
    np.testing.assert_allclose(combine([rain]), rain, atol=1e-6)
    np.testing.assert_allclose(combine([rain, thunder], [1e39, 0]), rain, atol=1e-6)
    for weights, message in (
        ([1, -1], "leave nothing"),
        ([1], "1 weights of 2 vectors"),
        ([1, np.nan], "finite numbers"),
        ([np.inf, 1], "finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            combine([rain, rain], weights)


def test_another_model_is_refused(clap, tmp_path):
    table = parts(20, 2)[0]
    for tower in ("audio", "text"):
        own = store.fingerprint(clap.config, clap.variables, tower)
        for made_by, refused in ((own, False), ("0" * 32, True)):
            prints = {tower: made_by}
            one = Table(table.vectors, table.names, table.kinds, "other", prints)
            index = Index.build([one], tmp_path / "i")
            if refused:
                with pytest.raises(ValueError, match=r"i: was made with another model \(other\)"):
                    index.check(clap)
            else:
                index.check(clap)
    model = clapjax.Index(tmp_path / "i")
    model.check_fingerprints({"audio": "1"})  # a tower that made nothing of it


def test_without_faiss(built, library, monkeypatch):
    """The same answers, slower, with a word about it; an index is then made without lists."""
    monkeypatch.setattr(lists, "available", lambda: False)
    with pytest.warns(UserWarning, match=r"6,040 rows are compared .*clapjax\[index\]"):
        index = Index(built)
    query = Made(SIZE).queries("sounds", 1)
    names = [[hit.name for hit in one.search(query, 5)[0]] for one in (index, Index(library))]
    assert names[0] == names[1]
    with pytest.raises(ImportError, match=r"clapjax\[index\]"):
        Index.build(library, built.parent / "new", approximate=True)
    assert "lists" not in Index.build(library, built.parent / "new").about["audio"]


def test_whole_or_not_at_all(library, tmp_path, monkeypatch):
    """What is there stays until the new one is whole; what is no index stays anyway."""
    out = tmp_path / "library.index"
    Index.build(parts(20, 2), out)

    def fail():
        yield parts(30, 2)[0]
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Index.build(fail(), out)
    assert [file.name for file in tmp_path.iterdir()] == [out.name] and len(Index(out)) == 22
    Index.build(parts(30, 2), out)
    assert [file.name for file in tmp_path.iterdir()] == [out.name] and len(Index(out)) == 32
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="mine: exists, and is no index"):
        Index.build(library, tmp_path / "mine")


WRONG = (  # of what an index says of itself
    *(("kinds", kinds) for kinds in (None, 5, ["audio"], {}, {"audio": 3}, {"audio": {}})),
    *(("fingerprints", prints) for prints in (None, 5, ["audio"])),
)


def _says(file, **other) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | other))


def test_what_a_killed_build_left_goes_and_one_that_runs_is_left_alone(tmp_path):
    """Fails before: gigabytes of each killed start stayed for good."""
    out, left = tmp_path / "a.index", tmp_path / ".a.index.123.tmp"
    other = tmp_path / ".b.index.123.tmp", tmp_path / ".a.index.npz.123.tmp"
    for folder in (left, *other):
        folder.mkdir()
    with locked(tmp_path / ".a.index.lock"), pytest.raises(ValueError, match="another process is"):
        Index.build(parts(20, 2), out)
    assert left.is_dir()
    Index.build(parts(20, 2), out)
    assert set(tmp_path.iterdir()) == {out, *other}


def test_bad_indices_and_questions_are_one_error(library, built, tmp_path):
    index = Index(library)
    for question, message in (
        ((np.ones(3), 5), "has vectors of 16 numbers, and the query 3"),
        ((np.ones(SIZE), 0), "top must be positive"),
        ((np.ones(SIZE), 2.5), "top must be a whole number, not 2.5"),
        ((np.full(SIZE, np.nan), 5), "queries hold NaN or Inf"),
        ((np.ones((1, 1, SIZE)), 5), r"queries have shape \(1, 1, 16\)"),
        ((np.ones(SIZE), 5), "queries must be of unit length"),
        (("rain", 5), "queries are vectors, as `Clap.embed_text`"),
        ((np.ones(SIZE), 5, "video"), "has audio and text, no 'video'"),
    ):
        with pytest.raises(ValueError, match=message):
            index.search(*question)
    long = parts(20, 2)
    long[0].vectors[3] *= 2
    with pytest.raises(ValueError, match=r"Größe 3.wav: a vector of length 2, not 1"):
        Index.build(long, tmp_path / "i")
    for table, message in ((long[0], "a vector of length 2, not 1"), (None, "no rows to search")):
        empty = dataclasses.replace(long[0], vectors=np.zeros((0, SIZE)), names=[], kinds=[])
        store.write_table(tmp_path / "one.npz", table or empty)
        with pytest.raises(ValueError, match=message):
            Index(tmp_path / "one.npz")
    for number, part in enumerate(parts(20, 2)):
        mixed = dataclasses.replace(part, fingerprints={"audio": f"{number}"})
        store.write_table(tmp_path / f"{number}.parquet", mixed)
    with pytest.raises(ValueError, match=r"1\.parquet: is of another model"):
        Index(tmp_path)
    for name, damage in (
        (ABOUT, lambda file: file.write_text(json.dumps({"format": 2}))),
        (ABOUT, lambda file: file.write_text("{")),
        *((ABOUT, functools.partial(_says, **{name: value})) for name, value in WRONG),
        ("audio/vectors.npy", lambda file: np.save(file, np.load(file)[:, 0])),
        ("audio/vectors.npy", lambda file: file.write_bytes(b"no")),
        ("audio/rows.arrow", lambda file: file.write_bytes(b"no")),
        ("audio/lists.faiss", lambda file: file.write_bytes(b"no")),
        ("audio/lists.bytes", lambda file: file.unlink()),
        ("audio/lists.bytes", lambda file: file.write_bytes(file.read_bytes()[:-1])),
    ):
        shutil.copytree(built, tmp_path / "bad", dirs_exist_ok=True)
        damage(tmp_path / "bad" / name)
        with pytest.raises(ValueError, match="bad.*(format 2|damaged)") as error:
            Index(tmp_path / "bad")
        assert "\n" not in str(error.value)
