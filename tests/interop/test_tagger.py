"""Taggers of PANNs, HTS-AT, LAION-CLAP and BLAT, against torch models saved under their names."""

import jax
import numpy as np
import pytest
import torch
import transformers

import clapjax
from clapjax.inference import Clap, Tagger
from clapjax.interop.errors import CheckpointError
from clapjax.interop.load import load_pretrained, load_tagger
from tests.interop.test_blat import write_blat
from tests.interop.test_laion import FRONT, SWIN, TEXT
from tests.interop.torch_models import (
    Blat,
    PannTagger,
    extractor,
    front_end_state,
    laion_state,
    log_mel,
    randomize,
    tagging_head,
    transformers_clap,
    transformers_mels,
    waves,
)

PANN_FRONTS = {32_000: (1024, 14_000), 16_000: (512, 8_000), 8_000: (256, 4_000)}
TABLE = "index,mid,display_name\n" + "".join(
    f'{index},/m/{index},"Dog, {index}"\n' for index in range(5)
)


def pann_tagger() -> PannTagger:
    torch.manual_seed(0)
    tagger = randomize(PannTagger())
    torch.nn.init.normal_(tagger.fc_audioset.weight, std=3.0)  # clips differ in its outputs
    return tagger


def assert_same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert np.ptp(expected, axis=0).min() > 1e-3 and np.ptp(expected, axis=1).min() > 1e-2


def test_panns(tmp_path):
    """Nothing else than a tagger, and of audio as long as it is."""
    theirs, file, rate = pann_tagger(), tmp_path / "Cnn14_mAP=0.431.pth", 32_000
    saved = {"iteration": 600_000, "model": theirs.saved(rate, *PANN_FRONTS[rate])}
    torch.save(saved, file, _use_new_zipfile_serialization=False)  # as torch did then
    clips = waves(rate, 0.7, 4.0, 7.0)
    mels = [log_mel(clip, rate, 1024, 320, 14_000) for clip in clips]
    with torch.no_grad():
        expected = torch.cat([theirs(mel[None]) for mel in mels]).numpy()
    ours = clapjax.load(file, batch_size=4)
    assert isinstance(ours, Tagger) and ours.labels == ("0", "1", "2", "3", "4")
    assert_same(ours.tag(clips), expected)
    with pytest.raises(CheckpointError, match="which has no embeddings; `clapjax tag --model"):
        load_pretrained(file)
    with pytest.raises(ValueError, match="a tagger, which has no text tower"):
        clapjax.load(file, towers="text")


def clipwise(model, head, features, clips) -> np.ndarray:
    """HTS-AT's clipwise_output; transformers' HTSAT gives (B, C, frequencies, T) tokens."""
    with torch.no_grad():
        tokens = model.audio_model(**transformers_mels(features, clips)).last_hidden_state
        return torch.sigmoid(head(tokens).flatten(2).mean(2)).numpy()


def htsat_tagger(fused: bool):
    theirs = transformers_clap(fused, audio=SWIN, text=TEXT)
    torch.manual_seed(1)
    return theirs, tagging_head(theirs)


def test_the_head_in_laion_clap(roberta, tmp_path):
    """Of one with fusion, which hears what is longer than a clip in four mels."""
    theirs, head = htsat_tagger(fused=True)
    file = tmp_path / "630k-fusion.pt"
    torch.save(
        {"state_dict": {f"module.{n}": x for n, x in laion_state(theirs, head).items()}}, file
    )
    clips = waves(48_000, 4.0, 12.0)
    ours = clapjax.load(file, task="tagging", labels=list("abcde"), batch_size=4)
    assert isinstance(ours, Tagger) and ours.labels == tuple("abcde")
    assert_same(ours.tag(clips), clipwise(theirs, head, extractor(True, **FRONT), clips))
    assert isinstance(clapjax.load(file, tokenizer=roberta), Clap)


def test_hts_at(tmp_path):
    """Alone, as PyTorch Lightning saves it, at 32 kHz."""
    theirs, head = htsat_tagger(fused=False)
    branch = "audio_branch."
    state = laion_state(theirs, head) | front_end_state(32_000)
    state = {n.replace(branch, "sed_model."): x for n, x in state.items() if n.startswith(branch)}
    torch.save({"epoch": 9, "state_dict": state}, tmp_path / "HTSAT_AudioSet_Saved_1.ckpt")
    clips = waves(32_000, 0.7, 10.0)
    ours = clapjax.load(tmp_path / "HTSAT_AudioSet_Saved_1.ckpt", batch_size=4)
    front = FRONT | {"sampling_rate": 32_000, "hop_length": 320, "padding": "pad"}
    assert_same(ours.tag(clips), clipwise(theirs, head, extractor(**front), clips))


@pytest.mark.parametrize("rate", [16_000, 8_000])
def test_the_front_end_of_a_pann_is_found(rate, tmp_path):
    torch.save({"model": pann_tagger().saved(rate, *PANN_FRONTS[rate])}, tmp_path / "Cnn14.pth")
    audio = load_tagger(tmp_path / "Cnn14.pth").config.audio
    window, fmax = PANN_FRONTS[rate]
    assert (audio.sample_rate, audio.window_length, audio.fmax) == (rate, window, fmax)
    assert audio.hop_length == rate // 100


def test_the_head_in_blat(bert, tmp_path):
    """The same Cnn14 as PANNs'."""
    tagger, rate = pann_tagger(), 16_000
    torch.save({"model": tagger.saved(rate, *PANN_FRONTS[rate])}, tmp_path / "Cnn14.pth")
    alone = load_tagger(tmp_path / "Cnn14.pth")
    (tmp_path / "blat").mkdir()
    blat = randomize(Blat(len(transformers.AutoTokenizer.from_pretrained(bert))))
    blat.audio_encoder, saved = tagger.encoder, blat.saved
    head = {f"audio_encoder.fc_audioset.{n}": x for n, x in tagger.fc_audioset.state_dict().items()}
    blat.saved = lambda: saved() | head
    write_blat(tmp_path / "blat", bert, rate, blat)
    found = load_tagger(tmp_path / "blat")
    assert jax.tree.all(jax.tree.map(np.array_equal, found.variables, alone.variables))
    for name in ("audio", "audio_encoder", "pann"):
        assert getattr(found.config, name) == getattr(alone.config, name)
    assert isinstance(clapjax.load(tmp_path / "blat"), Clap)


@pytest.fixture
def panns(tmp_path):
    torch.save({"model": pann_tagger().saved(32_000)}, tmp_path / "Cnn14.pth")
    return tmp_path / "Cnn14.pth"


def test_names_of_labels(panns, tmp_path):
    names = tuple(f"Dog, {index}" for index in range(5))
    (tmp_path / "names.txt").write_text("\n".join(names))
    (tmp_path / "table.csv").write_text(TABLE)
    assert load_tagger(panns).settings.labels == tuple("01234")
    for given in (names, tmp_path / "names.txt", str(tmp_path / "table.csv")):
        assert load_tagger(panns, given).settings.labels == names
    (tmp_path / "class_labels_indices.csv").write_text(TABLE)
    assert load_tagger(panns).settings.labels == names


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b"], r"labels: 2 names; .*Cnn14.pth tells 5 labels apart"),
        ([*"abca", "d"], "labels: 'a' is there twice"),
        ("no.csv", "no.csv: .*no such file"),
        (TABLE.replace("3,", "4,", 1), "table.csv: index '4' where 3 is due"),
        (TABLE.replace("display_name", "name"), "without the columns display_name"),
    ],
)
def test_labels_that_do_not_fit(labels, message, panns, tmp_path):
    if "\n" in labels:
        (tmp_path / "table.csv").write_text(labels)
        labels = tmp_path / "table.csv"
    with pytest.raises(ValueError, match=f"(?i){message}"):
        clapjax.load(panns, labels=labels)


def test_what_has_no_tagger(panns, roberta, tmp_path):
    tagger = pann_tagger().saved(32_000)
    for name, message in (
        ("fc_audioset.bias", "no fc_audioset.bias, which would tell how many labels"),
        ("logmel_extractor.melW", "no logmel_extractor.melW, which would tell what model"),
        ("fc1.weight", "1 missing: fc1.weight"),
        ("fc_audioset.weight", "no logit_scale_a in it; not a LAION-CLAP"),
    ):
        torch.save({"model": {n: x for n, x in tagger.items() if n != name}}, panns)
        with pytest.raises(CheckpointError, match=message) as caught:
            clapjax.load(panns)
        assert str(panns) in str(caught.value)
    with pytest.raises(CheckpointError, match="no tagging head in it"):
        clapjax.load(panns, task="tagging")
    torch.save({"model": tagger | {"pre_conv0.weight": torch.zeros(3)}}, panns)
    with pytest.raises(CheckpointError, match="1 unexpected: pre_conv0.weight"):
        clapjax.load(panns)
    transformers_clap().save_pretrained(tmp_path / "hf")
    with pytest.raises(CheckpointError, match="a layout that has no tagging head"):
        clapjax.load(tmp_path / "hf", task="tagging")
    with pytest.raises(ValueError, match="task must be 'tagging' or None, not 'captioning'"):
        clapjax.load(panns, task="captioning")
