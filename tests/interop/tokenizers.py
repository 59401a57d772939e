"""Tokenizers that need no network."""

from pathlib import Path

from clapjax.data.tokenizer import load_tokenizer, train_tokenizer

TEXTS = [
    "a dog barks",
    "rain falls on a roof, then thunder",
    "a man speaks while a crowd is cheering loudly in the background",
]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_roberta(folder: Path) -> Path:
    """A tokenizer in RoBERTa's layout, of at most 300 tokens, that cuts texts at 32."""
    train_tokenizer(TEXTS, folder, vocab_size=300)
    tokenizer = load_tokenizer(folder)
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(folder)
    return folder


def write_bert(folder: Path) -> Path:
    """A tokenizer in BERT's layout, which pads with token 0."""
    import transformers

    words = [*SPECIAL, *sorted(set(" ".join(TEXTS).split()))]
    vocab = {word: index for index, word in enumerate(words)}
    transformers.BertTokenizerFast(vocab=vocab).save_pretrained(folder)
    return folder
