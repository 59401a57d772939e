"""Settings of the records and of the pipeline that reads them."""

from dataclasses import dataclass

from clapjax.data.forms import KINDS
from clapjax.data.order import parse_share
from clapjax.data.selection import check_selection


@dataclass(frozen=True)
class DataConfig:
    """Tokenizer and pipeline."""

    vocab_size: int = 1000  # of the tokenizer trained on the records' captions
    # "records": that tokenizer; "model": the one of the model that the run starts from, which takes
    # it by itself; else a Hugging Face id or folder.
    tokenizer: str = "records"
    split: str = "train"  # what is trained on; "a+b": all of several splits
    # Further data sets in each batch, "FOLDER=SHARE": a part of it as 0.25 or 25%, or rows as 16 or
    # 16rows. The rest of the batch is of --data_dir, whose tokenizer all have.
    mixture: tuple[str, ...] = ()
    # Of records that have both, the captions as they were published ("none"), those made of tags
    # ("augment_only"), or "all" of them. LAION-CLAP, whose name this is, has "none". Or only those
    # that came to be in some ways: "human,captioner". Where none is left, all count.
    text_augment_selection: str = "all"
    # Clips that are longer than the model's: a keyed random "cut" of them, or "whole" up to
    # longest_seconds, for a model with fusion.
    long_clips: str = "cut"
    longest_seconds: float = 30.0  # of a clip that is heard whole
    # How records hold sound: "pcm", "flac", or "mel": log-mels of this model's front end, to train
    # on. "auto": in training as they are, in a build PCM.
    audio: str = "auto"
    # "rows": each epoch is a permutation of all records; "blocks": one of blocks of records that
    # lie together, and of the records within a window of blocks: for records in a bucket.
    order: str = "rows"
    block_rows: int = 16  # records of a block
    window_blocks: int = 256  # blocks of a window, two of which the hosts together have in memory
    lanes: int = 8  # of a window; a number of hosts that divides them reads each block once
    reads: int = 32  # blocks that a host reads at once
    workers: int = 2  # threads that read batches
    prefetch: int = 2  # batches made ahead

    def __post_init__(self):
        check_selection(self.text_augment_selection)
        if self.long_clips not in ("cut", "whole"):
            raise ValueError(f"data.long_clips must be 'cut' or 'whole', not {self.long_clips!r}")
        if not 0 < self.longest_seconds < float("inf"):
            raise ValueError(f"data.longest_seconds must be positive, not {self.longest_seconds}")
        for item in self.mixture:
            parse_share(item)
        for name, known in (("audio", ("auto", *KINDS)), ("order", ("rows", "blocks"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"data.{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}"
                )
        for name in ("block_rows", "window_blocks", "lanes", "reads", "workers", "prefetch"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} must be positive, not {getattr(self, name)}")
