"""The tokenizer that is trained on the records' captions."""

import numpy as np
import pytest

from clapjax.data.tokenizer import load_tokenizer, tokenize, train_tokenizer

WORDS = ("dog", "rain", "siren", "barks", "followed", "before", "thunderstorm")
CAPTIONS = [f"A {a} followed by {b}, before the {a} barks" for a in WORDS for b in WORDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(CAPTIONS, folder, 500)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder)


def test_same_captions_give_the_same_bytes(folder, tmp_path):
    train_tokenizer(iter(CAPTIONS), tmp_path / "again", 500)
    train_tokenizer(CAPTIONS + ["zebra zebra zebra"] * 50, tmp_path / "other", 500)
    first = (folder / "tokenizer.json").read_bytes()
    assert (tmp_path / "again" / "tokenizer.json").read_bytes() == first
    assert (tmp_path / "other" / "tokenizer.json").read_bytes() != first


def test_layout_is_robertas(tokenizer):
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>"]) == [0, 1, 2]
    assert (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert (tokenizer.cls_token_id, tokenizer.sep_token_id) == (0, 2)
    assert 261 < len(tokenizer) <= 500
    ids, mask = tokenize(tokenizer, ["dog rain"], 6)
    assert ids[0, 0] == 0 and ids[0, 3:].tolist() == [2, 1, 1]
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0]]


@pytest.mark.parametrize("word", [*WORDS, "Dog", "THUNDERSTORM"])
def test_a_known_word_is_one_token(tokenizer, word):
    assert tokenizer.tokenize(word) == [f"Ġ{word.lower()}"]


@pytest.mark.parametrize("text", ["xylophone", "🐶🌧️", "Größe", "犬が吠える", "a\n\tb", "ﬁre"])
def test_unknown_text_still_encodes(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    import unicodedata

    expected = unicodedata.normalize("NFKC", text).lower()
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == expected.strip()


def test_an_empty_text_is_begin_and_end(tokenizer):
    ids, mask = tokenize(tokenizer, ["", "dog"], 4)
    assert ids[0].tolist() == [0, 2, 1, 1]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]


def test_long_text_is_cut_and_still_ends(tokenizer):
    ids, mask = tokenize(tokenizer, ["dog " * 100, "dog"], 8)
    dog = tokenizer.convert_tokens_to_ids("Ġdog")
    assert ids.shape == mask.shape == (2, 8)
    assert ids.dtype == mask.dtype == np.int32
    assert ids[0].tolist() == [0] + [dog] * 6 + [2]


def test_errors(tmp_path):
    with pytest.raises(ValueError, match="there are no captions"):
        train_tokenizer([], tmp_path / "t", 500)
    with pytest.raises(ValueError, match="vocab_size must be at least 261"):
        train_tokenizer(["a"], tmp_path / "t", 260)
    with pytest.raises(ValueError, match="is no folder with a tokenizer"):
        load_tokenizer(tmp_path)
