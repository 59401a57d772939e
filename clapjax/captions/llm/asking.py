"""How a language model is asked for temporal negatives, and how its answers are judged."""

import json
from collections.abc import Generator

from clapjax.captions.rules.connectives import states_order
from clapjax.captions.rules.rules import Negatives
from clapjax.captions.validation import why_not

INSTRUCTIONS = """\
You get a caption of a sound recording. It tells sound events in the order in which they are heard.
Write {count} wrong captions of it: the same sound events in another order.
- Keep every event and its words; add none, leave out none.
- Events that sound at the same time ("while", "as", "and") stay together.
- Change what is heard first. "A after B" for "B before A" is the same order, and so no answer.
- Keep the style of the caption and its connectives; do not begin with "First".
- Write grammatical English.
Answer with JSON only: {{"negative_captions": [{count} strings]}}

Caption: A man speaks followed by a dog barking
Answer: {{"negative_captions": ["A dog barks followed by a man speaking"]}}"""

NOT_ASKED = "not asked: no order of events is stated"
MAX_LENGTH = 1000  # characters of an answer that are worth reading


def answer_schema(count: int) -> dict:
    """JSON schema of an answer, for endpoints with structured output."""
    captions = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": count}
    return {
        "type": "object",
        "properties": {"negative_captions": captions},
        "required": ["negative_captions"],
        "additionalProperties": False,
    }


def read_answer(text: str) -> list[str]:
    """The captions of an answer.

    Raises:
      ValueError: it is no JSON object with a list of strings under "negative_captions".
    """
    start, end = text.find("{"), text.rfind("}")
    try:
        captions = json.loads(text[start : end + 1])["negative_captions"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError('it is no JSON object with "negative_captions"') from error
    if not isinstance(captions, list) or not all(isinstance(item, str) for item in captions):
        raise ValueError('"negative_captions" is no list of strings')
    if not captions:
        raise ValueError('"negative_captions" is empty')
    return captions


def converse(caption: str, count: int, rounds: int) -> Generator[list[dict], str, Negatives]:
    """A dialogue about one caption: yields chat messages, is sent answers, returns the outcome.

    The messages follow from the caption and the answers alone, so that a dialogue over cached
    answers runs as it did the first time.

    Args:
      caption: one that states no order of events is not asked about.
      count: negatives wanted at most.
      rounds: how often the model is asked, the first time included.
    """
    if not states_order(caption):
        return Negatives((), NOT_ASKED)
    messages = [
        {"role": "system", "content": INSTRUCTIONS.format(count=count)},
        {"role": "user", "content": f"Caption: {caption}"},
    ]
    good: dict[str, None] = {}
    problem = ""
    for _ in range(rounds):
        answer = yield messages
        problem = _judge(caption, answer, good)
        if not problem or len(good) >= count:
            break
        again = f"Rejected: {problem}. Write {count} others for the same caption, as JSON."
        said = {"role": "assistant", "content": answer[:MAX_LENGTH]}
        messages = [*messages, said, {"role": "user", "content": again}]
    if not good:
        return Negatives((), f"answers rejected {rounds} times: {problem}")
    return Negatives(tuple(good)[:count])


def _judge(caption: str, answer: str, good: dict[str, None]) -> str:
    """Adds the good captions of an answer; returns what is wrong with the first bad one, or ""."""
    try:
        captions = read_answer(answer)
    except ValueError as error:
        return str(error)
    problem = ""
    for negative in (tidy(caption, item) for item in captions):
        why = why_not(caption, negative)
        if why is None:
            good.setdefault(negative)
        else:
            problem = problem or f"{negative!r}: {why}"
    return problem


def tidy(caption: str, negative: str) -> str:
    """Gives a negative the case and the full stop of its caption: neither must tell them apart."""
    negative = " ".join(negative.split()).rstrip(". ")
    if caption.rstrip().endswith("."):
        negative += "."
    first = caption[:1]
    if first.isupper():
        return negative[:1].upper() + negative[1:]
    return negative[:1].lower() + negative[1:] if first.islower() else negative
