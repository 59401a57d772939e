"""The local backend with a tiny model whose nonsense must be refused, and with a scripted one."""

import json

import pytest

from clapjax.captions.llm import local
from clapjax.captions.llm.cache import open_cache
from clapjax.captions.llm.local import LocalConfig, negate
from tests.captions.tiny_models import save_causal

pytest.importorskip("torch")

CAPTIONS = ["A dog barks then a bell rings", "Rain falls", "A man speaks followed by rain falling"]


@pytest.fixture
def cache(tmp_path):
    with open_cache(tmp_path / "answers") as cache:
        yield cache


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_causal(tmp_path_factory.mktemp("causal") / "tiny"))


def test_nonsense_is_listed_as_failed(model, cache):
    done = list(negate(CAPTIONS, 1, LocalConfig(model, max_new_tokens=8, batch_size=2), cache))
    assert [item.negatives for item in done] == [(), (), ()]
    assert done[0].reason.startswith("answers rejected 2 times: it is no JSON object")
    assert done[1].reason == "not asked: no order of events is stated"
    assert done[2].reason.startswith("answers rejected 2 times")
    assert len(cache) == 4  # two rounds for each caption that was asked about


def test_cached_answers_are_not_generated_again(model, cache, monkeypatch):
    settings = LocalConfig(model, max_new_tokens=8)
    first = list(negate(CAPTIONS, 1, settings, cache))
    monkeypatch.setattr(local, "generate", lambda *_: pytest.fail("generated again"))
    assert list(negate(CAPTIONS, 1, settings, cache)) == first


def test_answers_go_to_their_captions(model, cache, monkeypatch):
    """Three captions in batches of two; one of them needs a second round."""
    batches = []

    def scripted(tokenizer, model, dialogues, max_new_tokens):
        batches.append(len(dialogues))
        answers = []
        for messages in dialogues:
            caption = messages[1]["content"].removeprefix("Caption: ")
            first, second = caption.split(" then ")
            good = json.dumps({"negative_captions": [f"{second} then {first.lower()}"]})
            late = "bell" in caption and len(messages) == 2
            answers.append("what?" if late else good)
        return answers

    monkeypatch.setattr(local, "generate", scripted)
    captions = [f"A dog barks then {x}" for x in ("a bell rings", "rain falls", "a car honks")]
    done = list(negate(captions, 1, LocalConfig(model, batch_size=2), cache))
    assert [item.negatives for item in done] == [
        ("A bell rings then a dog barks",),
        ("Rain falls then a dog barks",),
        ("A car honks then a dog barks",),
    ]
    assert batches == [2, 1, 1]


def test_generate_continues_each_prompt_on_its_own(model):
    """Padding must not change what a model says: alone and in a batch it says the same."""
    tokenizer, network = local.load(LocalConfig(model))
    short = [{"role": "user", "content": "a dog barks"}]
    long = [{"role": "user", "content": "a man speaks then a bell rings and rain falls"}]
    both = local.generate(tokenizer, network, [short, long], 6)
    assert both == [local.generate(tokenizer, network, [d], 6)[0] for d in (short, long)]
    assert all(len(text.split()) <= 6 for text in both)


def test_a_chat_template_is_used(tmp_path):
    template = "{% for m in messages %}dog {{ m['content'] }} {% endfor %}bell"
    folder = str(save_causal(tmp_path / "chat", template))
    tokenizer, network = local.load(LocalConfig(folder))
    said = []
    inner = network.generate
    network.generate = lambda **kw: said.append(kw["input_ids"]) or inner(**kw)
    local.generate(tokenizer, network, [[{"role": "user", "content": "rain falls"}]], 2)
    assert tokenizer.decode(said[0][0]).split() == ["dog", "rain", "falls", "bell"]


def test_errors(tmp_path, cache):
    with pytest.raises(ValueError, match="name the model"):
        LocalConfig("")
    with pytest.raises(ValueError, match=r"transformers\.batch_size must be positive"):
        LocalConfig("m", batch_size=0)
    with pytest.raises(ValueError, match="no causal language model"):
        list(negate(CAPTIONS, 1, LocalConfig(str(tmp_path / "none")), cache))
