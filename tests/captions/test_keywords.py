"""Keyword-to-caption: templates, a tiny T5, a chat endpoint, and de-biasing."""

import json
import re

import numpy as np
import pytest

from clapjax.captions import keywords
from clapjax.captions.llm.cache import open_cache
from clapjax.captions.llm.chat import ChatConfig
from tests.captions.chat_server import content, serve
from tests.captions.tiny_models import save_t5
from tests.conftest import SHARED


def test_plain_label():
    assert keywords.plain_label("sea_waves") == "sea waves"
    assert keywords.plain_label("Male speech, man speaking") == "male speech"
    assert keywords.plain_label("TV noise") == "TV noise"
    assert keywords.plain_label("Bee, wasp, etc.") == "bee"
    assert keywords.plain_label("bee, wasp, etc. buzzing") == "bee buzzing"
    names = {keywords.plain_label("Bee, wasp, etc.", np.random.default_rng(i)) for i in range(20)}
    assert names == {"bee", "wasp"}
    with pytest.raises(ValueError, match="is no name"):
        keywords.plain_label(" , ")


def test_join_labels():
    assert keywords.join_labels(["a"]) == "a"
    assert keywords.join_labels(["a", "b"]) == "a and b"
    assert keywords.join_labels(["a", "b", "c"]) == "a, b and c"


def test_template_captions_hold_every_label_in_order():
    labels = ("dog", "Church bell", "sea_waves")
    done = keywords.by_template(labels, 20, 0)
    assert len(set(done.captions)) == len(done.captions) == 5  # those for several
    assert "The sounds of dog, church bell and sea waves" in done.captions
    for caption in done.captions:
        assert re.search("dog, church bell and sea waves", caption, re.I) and caption[0].isupper()
    single = keywords.by_template(("dog",), 20, 0).captions
    assert "The sound of dog" in single and not any("sounds" in c.lower() for c in single)


def test_template_choice_is_keyed():
    labels = ("dog", "rain")
    assert keywords.by_template(labels, 1, 3) == keywords.by_template(labels, 1, 3)
    chosen = [keywords.by_template(labels, 1, seed).captions[0] for seed in range(60)]
    assert len(set(chosen)) == 5
    others = {keywords.by_template((f"x{i}",), 1, 0).captions[0][:-3] for i in range(30)}
    assert len(others) > 2  # not the same template for every row


def test_class_names_of_real_data_sets():
    folder = SHARED / "labels"
    if not folder.is_dir():
        pytest.skip("class labels are not beside this checkout (../shared/data/labels)")
    files = sorted(folder.glob("*.json"))
    names = [name for file in files for name in json.loads(file.read_text())]
    assert len(names) > 1000
    for name in names:
        (caption,) = keywords.by_template((name,), 1, 0).captions
        assert "_" not in caption and "etc." not in caption and "  " not in caption
        assert keywords.left_out((name,), caption) is None


def test_left_out():
    assert keywords.left_out(("Dog", "church_bell"), "Dogs bark as a bell rings") is None
    assert keywords.left_out(("dog", "rain"), "A dog barks") == "rain"


@pytest.mark.parametrize(
    ("label", "named", "not_named"),
    [
        ("Chewing_and_mastication", "A man chews", "A dog barks and rain falls"),
        ("Inside, large room or hall", "A dog inside", "A cat or a dog"),
        ("people eating with other people", "People talk", "A dog with other dogs"),
        ("Fill (with liquid)", "A liquid", "A man with a dog"),
        ("Music of Africa", "Music plays", "The sound of a dog"),
        ("Vögel", "Vögel singen", "Vogel"),
        ("A, B", "a", "the"),
    ],
)
def test_a_label_is_not_named_by_and_or_with(label, named, not_named):
    assert keywords.share_named((label,), named) == 1
    assert keywords.share_named((label,), not_named) == 0


def test_of_a_label_without_letters_nothing_is_known():
    assert keywords.share_named(("🐕", "_"), "A dog barks") is None
    assert keywords.share_named(("🐕", "dog", "rain"), "A dog barks") == 0.5


# --- models ---------------------------------------------------------------------------------


def test_t5_nonsense_is_listed_as_failed(tmp_path):
    pytest.importorskip("torch")
    folder = str(save_t5(tmp_path / "t5"))
    done = list(keywords.by_t5([("siren",), ("chainsaw", "wolf")], folder))
    assert [item.captions for item in done] == [(), ()]
    assert done[0].reason.startswith("leaves out 'siren'")
    with pytest.raises(ValueError, match="no sequence-to-sequence model"):
        list(keywords.by_t5([("a",)], str(tmp_path / "none")))


def test_t5_gets_keytotexts_input_and_its_caption_is_kept(monkeypatch):
    prompts = []

    def generate(tokenizer, model, texts):
        prompts.extend(texts)
        return ["a dog barks while rain falls .", "the bell"]

    monkeypatch.setattr(keywords, "_load_t5", lambda *_: (None, None))
    monkeypatch.setattr(keywords, "_generate", generate)
    done = list(keywords.by_t5([("Dog", "Rain"), ("bell", "sea_waves")], "m"))
    assert prompts == ["dog| rain", "bell| sea waves"]
    assert done[0] == keywords.Expanded(
        ("Dog", "Rain"), ("A dog barks while rain falls",), "keyword"
    )
    assert done[1].captions == () and done[1].reason.startswith("leaves out 'sea_waves'")


def test_chat_captions_are_checked_cached_and_asked_again(tmp_path):
    pytest.importorskip("openai")

    def behave(prompt, _):
        if prompt == "Tags: dog; rain":
            return content('{"caption": "A dog barks."}')  # leaves out the rain
        if prompt.startswith("Rejected: it leaves out 'rain'"):
            return content('{"caption": "a dog barks in the rain"}')
        return content("hm")

    rows = [("dog", "rain"), ("bell",), ("dog", "rain")]
    with open_cache(tmp_path / "a") as cache, serve(behave) as endpoint:
        config = ChatConfig("m", endpoint.url, "k", concurrency=1, rounds=2)
        done = list(keywords.by_chat(rows, config, cache))
    assert done[0].captions == done[2].captions == ("A dog barks in the rain",)
    assert done[0].provenance == "llm:m"
    assert done[1].reason == 'answers rejected 2 times: it has no "caption"'
    assert set(endpoint.asked.values()) == {1}


# --- de-biasing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A man and a woman talk", "A person and a person talk"),
        ("Men laugh, women sing", "People laugh, people sing"),
        ("A woman sings to her child in his room", "A person sings to their child in their room"),
        ("Woman speaking", "Person speaking"),
        ("MAN SPEAKING", "PERSON SPEAKING"),
        ("A man's voice and the woman's dog", "A person's voice and the person's dog"),
        (
            "A dog barks near her and a man calls him",
            "A dog barks near them and a person calls them",
        ),
        ("A dog barks near her", "A dog barks near them"),
        ("Command of a salesman, a human romance, the mandolin, history", None),
        ("He speaks and she laughs", None),
        ("There a superwoman whimpers", None),
    ],
)
def test_debias(caption, expected):
    assert keywords.debias(caption) == (expected or caption)
    assert keywords.debias(keywords.debias(caption)) == keywords.debias(caption)
