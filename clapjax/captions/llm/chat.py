"""Temporal negatives from any OpenAI-compatible chat endpoint, many requests at once."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from clapjax.captions.llm.asking import answer_schema, converse
from clapjax.captions.llm.cache import AnswerCache
from clapjax.captions.rules.rules import Negatives

AHEAD = 64  # requests waiting in line for each one in flight: a slow one holds none of them up


@dataclass(frozen=True)
class ChatConfig:
    """Where and how to ask."""

    model: str
    base_url: str | None = None  # default: OPENAI_BASE_URL, or OpenAI itself
    api_key: str | None = field(default=None, repr=False)  # default: OPENAI_API_KEY
    concurrency: int = 32  # requests in flight
    timeout: float = 60.0  # seconds
    retries: int = 8  # of a request that is refused, fails or is cut; with back-off
    rounds: int = 3  # of asking about one caption until an answer is valid

    def __post_init__(self):
        if not self.model:
            raise ValueError("chat: name the model, e.g. --model gpt-4o-mini")
        for name in ("concurrency", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"chat.{name} must be positive, not {getattr(self, name)}")
        if self.retries < 0 or self.timeout <= 0:
            raise ValueError("chat.retries must not be negative, chat.timeout must be positive")


class RequestFailed(RuntimeError):
    """A request that got no answer after all retries."""


def open_client(config: ChatConfig):
    """The official client; it backs off, and waits as long as `Retry-After` says.

    Raises:
      ValueError: the `openai` package or the key is missing.
    """
    try:
        import openai
    except ImportError as error:
        raise ValueError("asking a chat endpoint needs: pip install clapjax[llm]") from error
    if not (config.api_key or os.environ.get("OPENAI_API_KEY")):
        raise ValueError("chat: set OPENAI_API_KEY or give --api_key (any text for a local server)")
    return openai.OpenAI(
        base_url=config.base_url,
        api_key=config.api_key,
        timeout=config.timeout,
        max_retries=config.retries,
    )


def ask(client, config: ChatConfig, cache: AnswerCache, messages: list[dict], schema: dict) -> str:
    """The model's answer to chat messages: from the cache, or asked for and put there.

    Raises:
      RequestFailed: no answer after all retries.
      ValueError: the endpoint refuses all requests: wrong key, or no such model.
    """
    import openai

    cached = cache.get(config.model, messages)
    if cached is not None:
        return cached
    form = {"name": "answer", "schema": schema, "strict": True}
    problem = ""
    for _ in range(config.retries + 1):  # the client repeats what fails, but not what is malformed
        try:
            reply = client.chat.completions.create(
                model=config.model,
                messages=messages,
                response_format={"type": "json_schema", "json_schema": form},
            )
            answer = reply.choices[0].message.content or ""
        except openai.APIStatusError as error:
            if error.status_code in (401, 403, 404):
                raise ValueError(f"chat: {config.model}: {error}") from error
            raise RequestFailed(f"{type(error).__name__}: {error}") from error
        except openai.APIConnectionError as error:
            raise RequestFailed(f"{type(error).__name__}: {error}") from error
        except (openai.APIError, ValueError, AttributeError, TypeError, IndexError) as error:
            problem = f"malformed reply: {type(error).__name__}"
            continue
        cache.put(config.model, messages, answer)
        return answer
    raise RequestFailed(problem)


def negate(
    captions: Iterable[str], count: int, config: ChatConfig, cache: AnswerCache
) -> Iterator[Negatives]:
    """Temporal negatives of captions, in their order, each validated or with its reason."""

    def begin(caption: str):
        return converse(caption, count, config.rounds)

    def failed(why: str) -> Negatives:
        return Negatives((), why)

    return talk(captions, begin, failed, answer_schema(count), config, cache)


def talk(
    items: Iterable, begin: Callable, failed: Callable, schema: dict, config: ChatConfig, cache
) -> Iterator:
    """Holds one dialogue about every item, many at a time.

    Args:
      items: what to talk about.
      begin: an item to a generator that yields chat messages, is sent answers, returns the outcome.
      failed: the reason why a request got no answer, to an outcome.
      schema: JSON schema of an answer.
      config: where and how to ask.
      cache: of answers.

    Yields:
      The outcomes in the order of the items.
    """
    client = open_client(config)

    def one(item):
        dialogue = begin(item)
        try:
            messages = next(dialogue)
            while True:
                messages = dialogue.send(ask(client, config, cache, messages, schema))
        except StopIteration as done:
            return done.value
        except RequestFailed as error:
            return failed(f"request failed: {error}")

    with client:
        yield from in_order(one, items, config.concurrency)


def in_order(work: Callable, items: Iterable, concurrency: int) -> Iterator:
    """Runs `work` on items in threads; yields the results in the order of the items."""
    pool = concurrent.futures.ThreadPoolExecutor(concurrency)
    waiting: collections.deque = collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= concurrency * AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
