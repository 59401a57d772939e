"""Settings of the records and of the pipeline that reads them."""

from dataclasses import dataclass

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
        if self.workers < 1 or self.prefetch < 1:
            raise ValueError("data.workers and data.prefetch must be positive")
