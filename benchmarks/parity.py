"""Largest difference between our embeddings and those of each checkpoint's own code.

    python -m benchmarks.parity --esc10 ESC10 --captions AUDIOCAPS.csv

ESC10 is a folder with meta.csv and audio/, AUDIOCAPS.csv has a column "caption". Models of the
published sizes with random weights and BatchNorm statistics are saved as their projects save them,
loaded with `clapjax.load`, and embed 20 recordings (5 s as they are, repeated to 25 s, cut to
0.5 s) and 50 captions. The other side is transformers' own feature extractor and model, or the
torch models of the tests. Prints a Markdown table. Needs requirements-test.txt and 8 GB of memory.
"""

import argparse
import csv
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import transformers

import clapjax
from clapjax.audio.files import read_audio
from clapjax.data.tokenizer import load_tokenizer, train_tokenizer
from tests.interop.test_blat import write_blat
from tests.interop.torch_models import (
    Blat,
    LaionPann,
    clip_of_10_s,
    laion_state,
    log_mel,
    randomize,
    transformers_audio,
    transformers_text,
)

PER_CLASS = 2  # recordings of each of ESC-10's ten classes
CAPTIONS = 50
SECONDS = {"5 s": 5.0, "25 s": 25.0, "0.5 s": 0.5}
SIZES = {
    "tiny": {"patch_embeds_hidden_size": 96, "hidden_size": 768, "depths": [2, 2, 6, 2]},
    "base": {"patch_embeds_hidden_size": 128, "hidden_size": 1024, "depths": [2, 2, 12, 2]},
}
NOISE = 0.02  # standard deviation of what is added to every weight


@dataclass(frozen=True)
class Inputs:
    """What is embedded."""

    esc10: Path
    captions: list[str]
    folder: Path  # for checkpoints
    tokenizer: Path

    def clips(self, sample_rate: int, seconds: float) -> list[np.ndarray]:
        """The recordings, repeated or cut to so many seconds."""
        with open(self.esc10 / "meta.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        names = [
            row["filename"]
            for category in sorted({row["category"] for row in rows})
            for row in [row for row in rows if row["category"] == category][:PER_CLASS]
        ]
        size = round(seconds * sample_rate)
        return [np.resize(read_audio(self.esc10 / "audio" / n, sample_rate), size) for n in names]


def measure(ours, inputs: Inputs, their_audio: Callable, their_text: Callable) -> list[str]:
    """Cells of a row: largest differences, then how far apart the embeddings themselves are."""
    differences, spreads = [], []
    for seconds in SECONDS.values():
        clips = inputs.clips(ours.config.audio.sample_rate, seconds)
        theirs = their_audio(clips)
        differences.append(
            np.abs(ours.embed_audio(clips, ours.config.audio.sample_rate) - theirs).max()
        )
        spreads.append(_spread(theirs))
    theirs = their_text(inputs.captions)
    differences.append(np.abs(ours.embed_text(inputs.captions) - theirs).max())
    return [f"{d:.1e}" for d in differences] + [f"{min(spreads):.2g}", f"{_spread(theirs):.2g}"]


def _spread(rows: np.ndarray) -> float:
    """Median distance of (N, D) embeddings from one another."""
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=-1)
    return float(np.median(distances[np.triu_indices(len(rows), 1)]))


def _transformers_clap(size: str, fused: bool, **text) -> transformers.ClapModel:
    torch.manual_seed(0)
    fusion = {"enable_fusion": fused, "fusion_type": "aff_2d" if fused else None}
    config = transformers.ClapConfig(audio_config=SIZES[size] | fusion, text_config=text)
    return randomize(transformers.ClapModel(config), noise=NOISE)


def _extractor(fused: bool) -> transformers.ClapFeatureExtractor:
    return transformers.ClapFeatureExtractor(
        frequency_min=50, truncation="fusion" if fused else "rand_trunc"
    )


def hugging_face(inputs: Inputs, size: str, fused: bool) -> list[str]:
    """A folder of transformers.ClapModel."""
    theirs, features = _transformers_clap(size, fused), _extractor(fused)
    tokenizer = load_tokenizer(inputs.tokenizer)
    tokenizer.model_max_length = 512
    for part in (theirs, features, tokenizer):
        part.save_pretrained(inputs.folder)
    return measure(
        clapjax.load(inputs.folder),
        inputs,
        lambda clips: transformers_audio(theirs, features, clips),
        lambda texts: transformers_text(theirs, tokenizer, texts),
    )


def laion_htsat(inputs: Inputs, fused: bool) -> list[str]:
    """LAION-CLAP's names; its numbers are those of transformers with RoBERTa's epsilon."""
    theirs, features = _transformers_clap("tiny", fused, layer_norm_eps=1e-5), _extractor(fused)
    torch.save({"state_dict": laion_state(theirs)}, inputs.folder / "model.pt")
    tokenizer = load_tokenizer(inputs.tokenizer)
    tokenizer.model_max_length = 77
    return measure(
        clapjax.load(inputs.folder / "model.pt", tokenizer=inputs.tokenizer),
        inputs,
        lambda clips: transformers_audio(theirs, features, clips),
        lambda texts: transformers_text(theirs, tokenizer, texts),
    )


def laion_pann(inputs: Inputs) -> list[str]:
    """LAION-CLAP with Cnn14 and BERT-base."""
    torch.manual_seed(0)
    theirs = LaionPann(30_522, "bert", width=64, size=512, **bert_size(768, layers=12))
    randomize(theirs, noise=NOISE)
    torch.save(theirs.saved(), inputs.folder / "model.pt")

    def audio(clips: list[np.ndarray]) -> torch.Tensor:
        mels = [log_mel(clip_of_10_s(clip), 48_000, 1024, 480, 14_000) for clip in clips]
        return theirs.audio(torch.stack(mels))

    ours = clapjax.load(inputs.folder / "model.pt", tokenizer=inputs.tokenizer)
    return _measure_torch(ours, inputs, audio, theirs.text)


def blat(inputs: Inputs) -> list[str]:
    """BLAT's Cnn14 at 32 kHz and BERT-medium; nothing is cut or filled."""
    torch.manual_seed(0)
    theirs = randomize(Blat(30_522, width=64, size=1024, **bert_size(512, layers=8)), noise=NOISE)
    write_blat(inputs.folder, inputs.tokenizer, model=theirs)

    def audio(clips: list[np.ndarray]) -> torch.Tensor:
        return torch.cat([theirs.audio(log_mel(c, 32_000, 1024, 320, 14_000)[None]) for c in clips])

    return _measure_torch(clapjax.load(inputs.folder), inputs, audio, theirs.text)


def bert_size(width: int, layers: int) -> dict[str, int]:
    """Settings of a BERT of the usual proportions."""
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": 4 * width,
        "max_position_embeddings": 512,
    }


def _measure_torch(ours, inputs: Inputs, audio: Callable, text: Callable) -> list[str]:
    def texts(captions: list[str]) -> np.ndarray:
        limit = ours.config.text.max_length
        cut = {"padding": True, "truncation": True, "max_length": limit, "return_tensors": "pt"}
        encoded = ours.tokenizer(captions, **cut)
        return text(encoded["input_ids"], encoded["attention_mask"]).numpy()

    with torch.no_grad():
        return measure(ours, inputs, lambda clips: audio(clips).numpy(), texts)


CASES = {
    "transformers, HTSAT-tiny": lambda inputs: hugging_face(inputs, "tiny", fused=False),
    "transformers, HTSAT-tiny, fused": lambda inputs: hugging_face(inputs, "tiny", fused=True),
    "transformers, HTSAT-base": lambda inputs: hugging_face(inputs, "base", fused=False),
    "transformers, HTSAT-base, fused": lambda inputs: hugging_face(inputs, "base", fused=True),
    "LAION-CLAP, HTSAT-tiny": lambda inputs: laion_htsat(inputs, fused=False),
    "LAION-CLAP, HTSAT-tiny, fused": lambda inputs: laion_htsat(inputs, fused=True),
    "LAION-CLAP, Cnn14 and BERT-base": laion_pann,
    "BLAT, Cnn14 and BERT-medium": blat,
}


def main() -> None:
    """Runs every case, or those that are named, and prints a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--esc10", required=True, type=Path, help="folder with meta.csv and audio/")
    parser.add_argument("--captions", required=True, help='CSV file with a column "caption"')
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    args = parser.parse_args()
    with open(args.captions, newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file)][:CAPTIONS]
    print(f"| checkpoint | {' | '.join(SECONDS)} | text | between clips | between texts |")
    print(f"|---|{'---|' * (len(SECONDS) + 3)}")
    for name in args.case or CASES:
        with tempfile.TemporaryDirectory() as folder:
            inputs = Inputs(args.esc10, captions, Path(folder), Path(folder) / "tokenizer")
            train_tokenizer(captions, inputs.tokenizer, vocab_size=1000)
            print(f"| {name} | {' | '.join(CASES[name](inputs))} |", flush=True)


if __name__ == "__main__":
    main()
