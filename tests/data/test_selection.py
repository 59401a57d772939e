"""LAION's text_augment_selection, at training time."""

import pytest

from clapjax.data.config import DataConfig
from clapjax.data.selection import join_provenance, nearest_text, select_captions

TWO_KINDS = ("human", "human", "keyword")


@pytest.mark.parametrize(
    ("selection", "wanted"), [("none", "ab"), ("all", "abc"), ("augment_only", "c")]
)
def test_selection(selection, wanted):
    assert "".join(select_captions("abc", join_provenance(TWO_KINDS), selection)) == wanted


@pytest.mark.parametrize("selection", ["none", "all", "augment_only"])
@pytest.mark.parametrize("kind", ["human", "keyword", "llm:x"])
def test_what_is_of_one_kind_is_never_left_without_captions(selection, kind):
    assert join_provenance([kind] * 3) == kind
    assert select_captions(["a", "b", "c"], kind, selection) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        ("captioner", "bc"),
        ("captioner:x", "b"),
        ("human, captioner:y", "ac"),
        ("llm", "abc"),  # where none is left, all count
    ],
)
def test_kinds_by_name(selection, wanted):
    assert DataConfig(text_augment_selection=selection).text_augment_selection == selection
    kinds = join_provenance(["human", "captioner:x", "captioner:y", "rules"])
    assert "".join(select_captions("abc", kinds, selection)) == wanted


@pytest.mark.parametrize("selection", ["", "caption", "human,me", "none,human"])
def test_kinds_that_are_none(selection):
    with pytest.raises(ValueError, match="none, all, augment_only, or name kinds of captions"):
        DataConfig(text_augment_selection=selection)


def test_of_bytes_as_the_pipeline_has_them():
    assert select_captions([b"a", b"b"], "human;keyword", "augment_only") == [b"b"]


def test_the_caption_that_a_negative_was_made_of():
    captions = ("Rain falls before a dog barks", "A dog barks after rain", "Rain, then a dog")
    assert nearest_text("A dog, then rain", captions) == "Rain, then a dog"
    assert nearest_text("A dog barks before rain falls", captions) == captions[0]
    assert nearest_text("a horn", captions) == captions[0]


@pytest.mark.parametrize(
    ("selection", "wanted"), [("none", "a"), ("all", "ab"), ("augment_only", "b")]
)
def test_negative_captions_have_words_of_their_own(selection, wanted):
    assert "".join(select_captions("ab", "human;keyword;rules;rules", selection)) == wanted
