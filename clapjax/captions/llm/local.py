"""Temporal negatives from a causal language model on this machine, through `transformers`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from clapjax.captions.llm.asking import converse
from clapjax.captions.llm.cache import AnswerCache
from clapjax.captions.rules.rules import Negatives


@dataclass(frozen=True)
class LocalConfig:
    """Which model, and how it is run."""

    model: str  # hub id or folder
    device: str = "cpu"  # or "cuda"
    batch_size: int = 8
    max_new_tokens: int = 160
    rounds: int = 2  # of asking about one caption until an answer is valid

    def __post_init__(self):
        if not self.model:
            raise ValueError("transformers: name the model, a hub id or a folder, with --model")
        for name in ("batch_size", "max_new_tokens", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"transformers.{name} must be positive, not {getattr(self, name)}")


def load(config: LocalConfig):
    """(tokenizer, model) of a causal language model.

    Raises:
      ValueError: PyTorch is missing, or there is no such model.
    """
    try:
        import torch
    except ImportError as error:
        raise ValueError("a local language model needs: pip install clapjax[torch]") from error
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(config.model, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(config.model, dtype="auto")
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{config.model}: no causal language model: {error}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.to(torch.device(config.device)).eval()


def generate(tokenizer, model, dialogues: list[list[dict]], max_new_tokens: int) -> list[str]:
    """Greedy answers to chat messages; a model without chat template gets them as plain text."""
    import torch

    if tokenizer.chat_template:
        prompts = [
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            for messages in dialogues
        ]
    else:
        prompts = ["\n\n".join(m["content"] for m in ms) + "\nAnswer:" for ms in dialogues]
    special = not tokenizer.chat_template  # templates write them themselves
    inputs = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=special)
    inputs = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        ids = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    behind = ids[:, inputs["input_ids"].shape[1] :]
    return tokenizer.batch_decode(behind, skip_special_tokens=True)


def negate(
    captions: Iterable[str], count: int, config: LocalConfig, cache: AnswerCache
) -> Iterator[Negatives]:
    """Temporal negatives of captions, in their order, each validated or with its reason."""
    tokenizer, model = load(config)
    captions = list(captions)
    for start in range(0, len(captions), config.batch_size):
        batch = captions[start : start + config.batch_size]
        outcomes: list[Negatives | None] = [None] * len(batch)
        talks = {i: converse(caption, count, config.rounds) for i, caption in enumerate(batch)}
        said: dict[int, str | None] = dict.fromkeys(talks)
        while said:
            asked = {}
            for i, answer in said.items():
                try:
                    asked[i] = talks[i].send(answer)
                except StopIteration as done:
                    outcomes[i] = done.value
            said = {i: cache.get(config.model, messages) for i, messages in asked.items()}
            new = [i for i, answer in said.items() if answer is None]
            if new:
                dialogues = [asked[i] for i in new]
                answers = generate(tokenizer, model, dialogues, config.max_new_tokens)
                for i, answer in zip(new, answers, strict=True):
                    cache.put(config.model, asked[i], answer)
                    said[i] = answer
        yield from outcomes
