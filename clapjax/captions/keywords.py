"""Keyword-to-caption (LAION-CLAP): labels or tags to captions.

By templates, by a T5-type model (keytotext's, as LAION used it), or by a chat endpoint; with
LAION's de-biasing as an option.
"""

import hashlib
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from clapjax.captions.llm.asking import MAX_LENGTH, tidy
from clapjax.captions.llm.cache import AnswerCache
from clapjax.captions.llm.chat import ChatConfig, talk
from clapjax.captions.rules import lexicon as lex
from clapjax.captions.rules.words import lemma, tokenize

TEMPLATES = (
    "The sounds of {}",
    "The sound of {}",
    "Sounds of {}",
    "{} can be heard",
    "A recording of {}",
    "There is the sound of {}",
    "One can hear {}",
)
ONE_ONLY = ("The sound of {}", "There is the sound of {}")  # {} stands for a single label
MANY_ONLY = ("The sounds of {}", "Sounds of {}")

INSTRUCTIONS = """\
You get tags of a sound recording. Write one short English caption that says what is heard: every
tag, and nothing else. Do not say in which order things sound, nor where, nor how many.
Answer with JSON only: {"caption": string}

Tags: dog; rain
Answer: {"caption": "A dog barks while rain falls"}"""
SCHEMA = {
    "type": "object",
    "properties": {"caption": {"type": "string"}},
    "required": ["caption"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Expanded:
    """Captions made of labels, or the reason why there are none."""

    labels: tuple[str, ...]
    captions: tuple[str, ...]
    provenance: str  # "template", "keyword" (T5), "llm:<model>"
    reason: str | None = None


# --- labels ---------------------------------------------------------------------------------


def _names(label: str) -> list[str]:
    names = [name.strip() for name in label.replace("_", " ").split(",") if name.strip()]
    if names and names[-1].startswith("etc."):  # "bee, wasp, etc. buzzing"
        shared = names.pop().removeprefix("etc.")
        names = [name + shared for name in names]
    return names


def is_name(label: str) -> bool:
    """Whether there is more to a label than what parts names: "_" and "," are none."""
    return bool(_names(label))


def plain_label(label: str, generator: np.random.Generator | None = None) -> str:
    """A class name as it stands in a sentence: "Male_speech, man_speaking" -> "man speaking".

    Of several names with commas between, the generator chooses one; without it, the first stays.

    Raises:
      ValueError: it is no name (`is_name`).
    """
    names = _names(label)
    if not names:
        raise ValueError(f"label {label!r} is no name")
    name = names[0 if generator is None else int(generator.integers(len(names)))]
    acronym = len(name) > 1 and name[1].isupper()
    return name if acronym else name[0].lower() + name[1:]


def join_labels(names: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *front, last = names
    return f"{', '.join(front)} and {last}" if front else last


def by_template(labels: tuple[str, ...], count: int, seed: int) -> Expanded:
    """Captions of labels in their order, by different templates.

    Args:
      labels: at least one.
      count: captions at most.
      seed: with the labels, chooses templates and names.
    """
    key = hashlib.sha256("\0".join([str(seed), *labels]).encode()).digest()
    generator = np.random.default_rng(np.frombuffer(key, np.uint64))
    unfit = MANY_ONLY if len(labels) == 1 else ONE_ONLY
    templates = [template for template in TEMPLATES if template not in unfit]
    chosen = generator.permutation(len(templates))[:count]
    captions = []
    for i in chosen:
        names = dict.fromkeys(plain_label(label, generator) for label in labels)
        text = templates[i].format(join_labels(names))
        captions.append(text[0].upper() + text[1:])
    return Expanded(labels, tuple(captions), "template")


# --- models ---------------------------------------------------------------------------------


def left_out(labels: Sequence[str], caption: str) -> str | None:
    """The first label of which a caption has no word; None where it has one of each.

    "And", "with" or "a" count in names that have no other words alone.
    """
    said = {lemma(word) for word in tokenize(caption)}
    for label in labels:
        words = _telling(label)
        if words and not words & said:
            return label
    return None


def _telling(label: str) -> set[str]:
    """The words by which a label is known again; none where it has no letters."""
    found: set[str] = set()
    for name in _names(label):
        words = {word.lower() for word in tokenize(name) if word[0].isalnum()}
        found |= words - lex.EMPTY or words
    return set(map(lemma, found))


def share_named(labels: Sequence[str], caption: str) -> float | None:
    """Of how many of the labels, as a share, a caption has a word; None where none has words."""
    named = [left_out((label,), caption) is None for label in labels if _telling(label)]
    return sum(named) / len(named) if named else None


def by_t5(
    rows: list[tuple[str, ...]], model_name: str, device: str = "cpu", batch_size: int = 16
) -> Iterator[Expanded]:
    """One caption for every row of labels from a seq2seq model; a label left out rejects it.

    Input and search are keytotext's: "dog| rain", four beams.

    Args:
      rows: labels.
      model_name: hub id or folder of a T5-type model, e.g. gagan3012/k2t-base.
      device: "cpu" or "cuda".
      batch_size: rows at a time.

    Raises:
      ValueError: PyTorch is missing, or there is no such model.
    """
    tokenizer, model = _load_t5(model_name, device)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        prompts = ["| ".join(plain_label(label) for label in labels) for labels in batch]
        for labels, text in zip(batch, _generate(tokenizer, model, prompts), strict=True):
            caption = tidy("A", text)
            missing = left_out(labels, caption)
            if not caption or missing:
                yield Expanded(labels, (), "keyword", f"leaves out {missing!r}: {caption!r}")
            else:
                yield Expanded(labels, (caption,), "keyword")


def _load_t5(name: str, device: str):
    try:
        import torch
    except ImportError as error:
        raise ValueError("a local T5 model needs: pip install clapjax[torch]") from error
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSeq2SeqLM.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name}: no sequence-to-sequence model: {error}") from error
    return tokenizer, model.to(torch.device(device)).eval()


def _generate(tokenizer, model, prompts: list[str]) -> list[str]:
    import torch

    inputs = tokenizer(prompts, return_tensors="pt", padding=True, truncation=True)
    inputs = {name: inputs[name].to(model.device) for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        ids = model.generate(
            **inputs,
            num_beams=4,
            length_penalty=1.5,
            no_repeat_ngram_size=3,
            early_stopping=True,
            max_new_tokens=64,
        )
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def by_chat(
    rows: list[tuple[str, ...]], config: ChatConfig, cache: AnswerCache
) -> Iterator[Expanded]:
    """One caption for every row of labels from a chat endpoint; checked, cached, asked again."""
    provenance = f"llm:{config.model}"
    talks = talk(
        rows,
        lambda labels: _converse(labels, config.rounds),
        lambda why: ((), why),
        SCHEMA,
        config,
        cache,
    )
    for labels, (captions, reason) in zip(rows, talks, strict=True):
        yield Expanded(labels, captions, provenance, reason)


def _converse(labels: tuple[str, ...], rounds: int) -> Generator[list[dict], str, tuple]:
    """A dialogue about one row; returns (captions, reason)."""
    tags = "; ".join(plain_label(label) for label in labels)
    messages = [
        {"role": "system", "content": INSTRUCTIONS},
        {"role": "user", "content": f"Tags: {tags}"},
    ]
    problem = ""
    for _ in range(rounds):
        answer = yield messages
        found = re.search(r'"caption"\s*:\s*"([^"]+)"', answer)
        caption = tidy("A", found.group(1)) if found else ""
        missing = left_out(labels, caption)
        if caption and missing is None:
            return (caption,), None
        problem = f"it leaves out {missing!r}" if caption else 'it has no "caption"'
        said = {"role": "assistant", "content": answer[:MAX_LENGTH]}
        again = {"role": "user", "content": f"Rejected: {problem}. Answer again, as JSON."}
        messages = [*messages, said, again]
    return (), f"answers rejected {rounds} times: {problem}"


# --- de-biasing -----------------------------------------------------------------------------

NEUTRAL = {
    "man": "person", "woman": "person", "men": "people", "women": "people",
    "his": "their", "her": "their", "him": "them", "hers": "theirs",
    "himself": "themselves", "herself": "themselves",
}  # fmt: skip
_GENDERED = re.compile(rf"\b({'|'.join(NEUTRAL)})\b(?!')|\b(man|woman)(?='s)", re.IGNORECASE)
# Behind "her" as an object there is no noun: "near her while".
_OBJECT_END = re.compile(r"\s*(?:$|[.,;!?]|(?:and|as|while|then|before|after|in|with|on|at|by)\b)")


def debias(caption: str) -> str:
    """LAION's de-biasing: man/woman -> person, her/his -> their; whole words, case kept.

    Beyond LAION's rule, plurals and the other pronouns follow, and "her" as an object is "them".
    Subjects ("he", "she") stay: the verb would have to change.
    """

    def neutral(match: re.Match) -> str:
        word = match.group(0)
        new = NEUTRAL[word.lower()]
        if word.lower() == "her" and _OBJECT_END.match(caption, match.end()):
            new = "them"
        if word.isupper() and len(word) > 1:
            return new.upper()
        return new.capitalize() if word[0].isupper() else new

    return _GENDERED.sub(neutral, caption)
