"""Settings of the records and of the pipeline that reads them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DataConfig:
    """Record format, tokenizer and pipeline."""

    format: str = "array_record"  # or "tfrecord", which TFDS reads but training cannot
    vocab_size: int = 1000  # of the tokenizer trained on the records' captions
    tokenizer: str = "records"  # "records": that tokenizer; else a Hugging Face id or folder
    split: str = "train"  # what is trained on
    workers: int = 2  # threads that read and decode records
    prefetch: int = 2  # batches made ahead

    def __post_init__(self):
        if self.format not in ("array_record", "tfrecord"):
            raise ValueError(
                f"data.format must be 'array_record' or 'tfrecord', not {self.format!r}"
            )
        if self.workers < 1 or self.prefetch < 1:
            raise ValueError("data.workers and data.prefetch must be positive")
