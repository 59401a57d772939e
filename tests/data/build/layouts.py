"""Random folders to build records of: splits, shared recordings, and all that files have."""

import csv
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from clapjax.data.build.builder import build_records
from clapjax.data.build.config import SourceConfig
from clapjax.data.config import DataConfig
from clapjax.synthesis.mixup import MixupConfig

RATE = 4000
HELD_OUT = ("test", "validation", "test_clips", "eval_2")
TRAIN = ("train", "balanced_train", "unbalanced_train")
SYNTHESIS = MixupConfig(
    train_mixtures=7, test_mixtures=5, crops_per_recording=1, clip_seconds=0.6,
    min_event_seconds=0.1, max_event_seconds=0.2, max_crossfade_seconds=0.02,
)  # fmt: skip


@dataclass(frozen=True)
class RandomFolder:
    """A folder with a table, and what is in it."""

    root: Path
    splits: tuple[str, ...]
    rows: tuple[tuple[str, str, str], ...]  # file, split, recording

    def sources(self, splits) -> list[str]:
        """What the clips of some splits are called, as records and rejections name them."""
        return [f"set:{split}/{Path(file).stem}" for file, split, _ in self.rows if split in splits]


def random_folder(folder: Path, seed: int, splits: tuple[str, ...] = ()) -> RandomFolder:
    """Some tens of clips; several are of one recording, in a split or in two, some are unusable."""
    chance, noise = random.Random(seed), np.random.default_rng(seed)
    root = folder / "set"
    root.mkdir(parents=True)
    splits = splits or (
        *chance.sample(TRAIN, chance.randint(1, 2)),
        *chance.sample(HELD_OUT, chance.randint(1, 3)),
    )
    rows, table = [], [("file", "split", "group", "label", "caption")]
    for number in range(chance.randint(16, 30)):
        name, split = f"{number}.wav", chance.choice(splits)
        recording = f"recording {chance.randrange(30)}"
        samples = noise.uniform(-0.5, 0.5, chance.randint(500, 2000))
        fate = chance.random()
        if fate < 0.85:
            soundfile.write(root / name, samples if fate < 0.8 else 0 * samples, RATE)
        elif fate < 0.95:
            (root / name).write_bytes(b"no sound")
        label = ("dog", "rain", "siren")[number % 3]
        for listed in {split, chance.choice(splits) if chance.random() < 0.2 else split}:
            rows.append((name, listed, recording))
            table.append((name, listed, recording, label, f"Sound {number}"))
    with (root / "all.csv").open("w", newline="") as file:
        csv.writer(file).writerows(table)
    return RandomFolder(root, splits, tuple(rows))


def build(folder: Path, data_dir: Path, **changes):
    """Builds the records of a folder, four clips or so to a unit."""
    settings = {"seed": 0, "shard_bytes": 8 * RATE * 10, "synthesis": SYNTHESIS}
    settings |= {name: changes.pop(name) for name in list(changes) if name not in FIELDS}
    source = SourceConfig(**({"kind": "folder", "path": str(folder), "mode": "direct"} | changes))
    data = DataConfig(vocab_size=settings.pop("vocab_size", 300))
    synthesis = settings.pop("synthesis")
    return build_records(source, synthesis, data, sample_rate=RATE, data_dir=data_dir, **settings)


FIELDS = frozenset(SourceConfig.__dataclass_fields__)
