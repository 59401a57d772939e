"""Recordings of ESC-50's layout, laid out as AudioCaps, Clotho and Auto-ACD publish theirs.

    python -m benchmarks.published_layouts SOUNDS OUT [--clips 900]

The captioned sets that T-CLAP trains on cannot be shipped. This makes small ones with their tables,
file names and number of captions a clip, out of SOUNDS (ESC-50, ESC-10, or a folder like them):

    OUT/audiocaps/{train,val,test}.csv, audio/ID_START.flac   two sounds in a told order
    OUT/clotho/clotho_captions_{development,validation,evaluation}.csv, {development,...}/*.flac
    OUT/autoacd/{train,val,test}.csv, audio/ID_START.flac     one sound, or two at once

Captions are sentences as people write them, without negatives: those are what `clapjax captions
negate` is for. What tests and validates is made of the last fold's recordings, what trains of the
others. The same arguments give the same files.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import soundfile

from clapjax.data.sources import list_clips

RATE, SECONDS = 16_000, 5.0  # Hz, s of one sound
PARTS = ("train", "val", "test")
CLOTHO = {"train": "development", "val": "validation", "test": "evaluation"}

# Label to subject, verb and gerund; ESC-10's, and those of the embedded sounds.
SENTENCES = {
    "applause": ("an audience", "applauds", "applauding"),
    "bird song": ("a bird", "sings", "singing"),
    "car horn": ("a car", "honks", "honking"),
    "cat meow": ("a cat", "meows", "meowing"),
    "chainsaw": ("a chainsaw", "buzzes", "buzzing"),
    "church bell": ("a church bell", "rings", "ringing"),
    "clock tick": ("a clock", "ticks", "ticking"),
    "crackling fire": ("a fire", "crackles", "crackling"),
    "cricket chirp": ("a cricket", "chirps", "chirping"),
    "crying baby": ("a baby", "cries", "crying"),
    "dog": ("a dog", "barks", "barking"),
    "dog bark": ("a dog", "barks", "barking"),
    "engine": ("an engine", "idles", "idling"),
    "frog croak": ("a frog", "croaks", "croaking"),
    "helicopter": ("a helicopter", "hovers", "hovering"),
    "rain": ("rain", "falls", "falling"),
    "rooster": ("a rooster", "crows", "crowing"),
    "rooster crow": ("a rooster", "crows", "crowing"),
    "sea waves": ("water", "splashes", "splashing"),
    "siren": ("a siren", "wails", "wailing"),
    "sneezing": ("a person", "sneezes", "sneezing"),
    "steam hiss": ("steam", "hisses", "hissing"),
    "telephone ring": ("a telephone", "rings", "ringing"),
    "thunder": ("thunder", "rumbles", "rumbling"),
    "water drops": ("water", "drips", "dripping"),
    "whistle": ("a man", "whistles", "whistling"),
    "wind": ("wind", "blows", "blowing"),
}
# {a} sounds first; {ing} forms are of the second.
ORDERED = (
    "{a}, then {b}",
    "{a}, followed by {b_ing}",
    "{a} before {b}",
    "{b} after {a}",
    "{a} and then {b}",
    "{a_ing} followed by {b_ing}",
)
AT_ONCE = ("{a} while {b}", "{a} as {b}")
ALONE = ("{a}", "{a_ing}", "{a} nearby", "{a} in the distance")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sounds", help="folder in ESC-50's layout")
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=900, help="training clips of AudioCaps")
    args = parser.parse_args()
    lay_out(args.sounds, args.out, args.clips)


def lay_out(sounds: str, out: Path, clips: int, seed: int = 0) -> None:
    """Writes the three sets; Clotho's training part has a third of `clips`, Auto-ACD's all."""
    by_part = divide(sounds)
    counts = {"train": clips, "val": max(4, clips // 20), "test": max(8, clips // 4)}
    generator = np.random.default_rng(seed)
    for part in PARTS:
        audiocaps(out / "audiocaps", part, by_part[part], counts[part], generator)
        clotho(out / "clotho", part, by_part[part], max(4, counts[part] // 3), generator)
        autoacd(out / "autoacd", part, by_part[part], counts[part], generator)


def divide(sounds: str) -> dict[str, dict[str, list[np.ndarray]]]:
    """Part to label to recordings, (T,) float32: the last fold tests and validates."""
    found = [clip for clip in list_clips("esc50", sounds)[0] if clip.label in SENTENCES]
    last = max((clip.fold for clip in found), default=0)
    if len({clip.fold for clip in found}) < 2:
        raise SystemExit(f"{sounds}: two folds with labels that are known here are needed")
    parts: dict[str, dict[str, list[np.ndarray]]] = {"train": {}, "test": {}}
    for clip in found:
        samples = clip.read(RATE)[: int(SECONDS * RATE)]
        samples = np.pad(samples, (0, int(SECONDS * RATE) - samples.size))
        parts["test" if clip.fold == last else "train"].setdefault(clip.label, []).append(samples)
    return parts | {"val": parts["test"]}


def audiocaps(folder: Path, part: str, by_label: dict, count: int, generator) -> None:
    """Two sounds in order: one caption to train on, five to validate and test on."""
    rows = []
    for number in range(count):
        pair = draw(by_label, 2, generator)
        video, start = f"{part[:2]}C{number:08d}", 10 * (number % 30)
        write(folder / "audio" / f"{video}_{start}.flac", np.concatenate([s for _, s in pair]))
        captions = told(
            [label for label, _ in pair], ORDERED, 1 if part == "train" else 5, generator
        )
        rows += [(100 * number + i, video, start, caption) for i, caption in enumerate(captions)]
    columns = ("audiocap_id", "youtube_id", "start_time", "caption")
    write_table(folder / f"{part}.csv", columns, rows)


def clotho(folder: Path, part: str, by_label: dict, count: int, generator) -> None:
    """Two sounds in order, five captions each."""
    rows, name = [], CLOTHO[part]
    for number in range(count):
        pair = draw(by_label, 2, generator)
        file = f"{pair[0][0]} and {pair[1][0]} {number}.flac"
        write(folder / name / file, np.concatenate([samples for _, samples in pair]))
        rows.append((file, *told([label for label, _ in pair], ORDERED, 5, generator)))
    columns = ("file_name", *(f"caption_{i}" for i in range(1, 6)))
    write_table(folder / f"clotho_captions_{name}.csv", columns, rows)


def autoacd(folder: Path, part: str, by_label: dict, count: int, generator) -> None:
    """One sound, or two at once: captions that tell no order."""
    rows = []
    for number in range(count):
        several = 1 + number % 2
        drawn = draw(by_label, several, generator)
        video = f"Y{part[:2]}D{number:08d}"
        write(
            folder / "audio" / f"{video}.flac", np.mean([samples for _, samples in drawn], axis=0)
        )
        wordings = AT_ONCE if several > 1 else ALONE
        rows.append((video, told([label for label, _ in drawn], wordings, 1, generator)[0]))
    write_table(folder / f"{part}.csv", ("youtube_id", "caption"), rows)


def draw(by_label: dict, count: int, generator) -> list[tuple[str, np.ndarray]]:
    """(label, (T,) float32 of `SECONDS`) of recordings of different classes."""
    labels = generator.permutation(sorted(by_label))[:count].tolist()
    return [(label, by_label[label][generator.integers(len(by_label[label]))]) for label in labels]


def told(labels: list[str], wordings: tuple[str, ...], count: int, generator) -> list[str]:
    """`count` different sentences of what sounds."""
    said = {}
    for name, label in zip("ab", labels, strict=False):
        subject, verb, gerund = SENTENCES[label]
        said |= {name: f"{subject} {verb}", f"{name}_ing": f"{subject} {gerund}"}
    chosen = generator.permutation(len(wordings))[:count]
    sentences = [wordings[i].format(**said) for i in chosen]
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def write(file: Path, samples: np.ndarray) -> None:
    """(T,) float at `RATE`, lossless."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples, RATE)


def write_table(file: Path, columns: tuple[str, ...], rows: list[tuple]) -> None:
    """A CSV with a header."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])


if __name__ == "__main__":
    main()
