"""What guides a captioner, as text and as tokens of any tokenizer."""

from types import SimpleNamespace

import numpy as np
import pytest

from clapjax.data.tokenizer import load_tokenizer
from clapjax.models.config import DecoderConfig
from clapjax.tasks.guidance import (
    caption_ids,
    caption_text,
    find_marks,
    guidance_ids,
    guidance_text,
    order_of,
    style_of,
)
from tests.interop.tokenizers import TEXTS, write_bert, write_roberta

SIZES = DecoderConfig(guidance_length=6, max_length=9)


@pytest.fixture(scope="module", params=["roberta", "bert"])
def tokenizer(request, tmp_path_factory):
    write = {"roberta": write_roberta, "bert": write_bert}[request.param]
    return load_tokenizer(write(tmp_path_factory.mktemp(request.param)))


def test_texts():
    # A label of records that is no name ends no training.
    for odd in ("_", "", " , ", ",", "etc. x"):
        assert guidance_text((odd, "dog")) == "; ; dog" and guidance_text((odd,)) == ""
    assert guidance_text() == ""
    assert guidance_text(["Dog_bark", "rain"]) == "; ; dog bark, rain"
    assert guidance_text((), "sequential", "audio_caps") == "audio caps; sequential; "
    # Of several names of one label the first, as everywhere; nothing else parts what guides.
    assert guidance_text(["Male speech, man speaking"], style="a;b,c") == "a b c; ; male speech"
    with pytest.raises(ValueError, match="order must be one of one, simultaneous.*not 'two'"):
        guidance_text(order="two")
    orders = {
        (): "",
        ("dog",): "one",
        ("dog + rain",): "simultaneous",
        ("dog", "rain", "dog"): "sequential",
        ("dog", "rain + siren"): "complex",
    }
    assert {events: order_of(events) for events in orders} == orders
    assert [style_of(source) for source in ("sounds:a-1 + sounds:b-2", "x", "")] == [
        "sounds",
        "",
        "",
    ]


def test_captions_to_tokens_and_back(tokenizer):
    """What is too long is cut, and does not end; no token but words and one end is learnt."""
    marks = find_marks(tokenizer)
    ids, mask = caption_ids(tokenizer, [*TEXTS, ""], SIZES)
    whole = [tokenizer(text)["input_ids"][1:] for text in (*TEXTS, "")]  # without the beginning
    for row, own in enumerate(whole):
        count = min(len(own), SIZES.max_length)
        assert ids[row][mask[row]].tolist() == own[:count] and mask[row].sum() == count
        assert (marks.end in ids[row][mask[row]]) == (len(own) <= SIZES.max_length)
    assert caption_text(tokenizer, ids[0]) == TEXTS[0] and caption_text(tokenizer, ids[3]) == ""
    assert TEXTS[2].startswith(caption_text(tokenizer, ids[2]))
    assert marks.end not in marks.never and {tokenizer.unk_token_id, marks.begin} <= {*marks.never}


def test_guidance_stands_at_the_right_end(tokenizer):
    """Of too much the last words, which are tags, stay."""
    marks = find_marks(tokenizer)
    texts = ["", "dog", TEXTS[2]]
    ids, mask = guidance_ids(tokenizer, texts, SIZES)
    for row, text in enumerate(texts):
        words = tokenizer(text, add_special_tokens=False)["input_ids"][-4:]
        assert ids[row][mask[row]].tolist() == [marks.begin, *words, marks.end]
        assert not mask[row][: -len(words) - 2].any()
    assert mask.sum(axis=1).tolist()[::2] == [2, 6]
    assert guidance_ids(tokenizer, [], SIZES)[0].shape == (0, 6)


def test_tokenizers_with_other_names_for_the_ends():
    """T5 has no beginning, others no end."""
    only = SimpleNamespace(eos_token_id=1, all_special_ids=[0, 1, 2])
    assert find_marks(only) == (1, 1, (0, 2))
    with pytest.raises(ValueError, match="no token that ends a text"):
        find_marks(SimpleNamespace(bos_token_id=1, all_special_ids=[1]))
    assert np.array_equal(find_marks(SimpleNamespace(sep_token_id=3, all_special_ids=[3]))[2], ())
