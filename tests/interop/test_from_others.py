"""What docs/from_others.md says: both sides are run, on a small model, and give the same."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
import transformers

from tests.interop.torch_models import extractor, transformers_clap, waves

PAGE = (Path(__file__).parents[2] / "docs" / "from_others.md").read_text()
RATE = 48_000


@pytest.fixture(scope="module")
def said(tmp_path_factory, roberta) -> dict:
    """The names that the page's blocks leave, in their order."""
    room = tmp_path_factory.mktemp("room")
    transformers_clap().save_pretrained(room / "model")
    settings = {"sampling_rate": RATE, "hop_length": 240, "fft_window_size": 1024}
    features = extractor(**settings, frequency_max=14_000)
    tokenizer = transformers.AutoTokenizer.from_pretrained(roberta)
    transformers.ClapProcessor(features, tokenizer).save_pretrained(room / "model")
    names = {"waveforms": np.stack(waves(RATE, 0.7, 0.7))}
    for name, samples in zip(("dog", "rain"), names["waveforms"], strict=True):
        soundfile.write(room / f"{name}.wav", samples, RATE, subtype="FLOAT")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(room)
        for whose, block in re.findall(r"```python\n# (\w+)\n(.*?)```", PAGE, re.S):
            block = re.sub(r'"(laion/clap-htsat-unfused|630k-audioset-best.pt)"', '"model"', block)
            code = compile(block, f"from_others.md, {whose}", "exec")
            if whose != "laion_clap":  # it needs numpy 1
                exec(code, names)
    return names


def test_embeddings_and_scores_are_those_of_transformers(said):
    np.testing.assert_allclose(said["our_audio"], said["their_audio"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(said["our_text"], said["their_text"], rtol=0, atol=1e-5)
    theirs = {item["label"]: item["score"] for item in said["their_scores"]}
    assert said["our_scores"] == pytest.approx(theirs, abs=1e-4)
    np.testing.assert_allclose(said["embedded"], said["our_audio"], rtol=0, atol=1e-6)


def test_what_is_exported_computes_the_same(said):
    clap = said["clap"]
    clip = np.tile(said["waveforms"][:1], 2)[:, : clap.config.audio.clip_samples]
    clip[:, said["waveforms"].shape[1] :] = 0  # repeatpad: one whole copy, then zeros
    again = jax.export.deserialize(said["bytes_of_it"])
    found = again.call(clap.variables, clip, np.array([clip.size], np.int32))
    np.testing.assert_allclose(found, said["our_audio"][:1], rtol=0, atol=1e-5)


def test_every_link_of_the_page_leads_somewhere():
    docs = Path(__file__).parents[2] / "docs"
    for name, anchor in re.findall(r"\]\(([\w./]*)#?([\w-]*)\)", PAGE):
        text = (docs / name).read_text() if name else PAGE
        heads = re.findall(r"^#+ (.*)$", text, re.M)
        slugs = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
        assert not anchor or anchor in slugs, (name, anchor)
