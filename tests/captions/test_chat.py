"""The chat backend against a real HTTP server that delays, limits, drops and talks nonsense."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from clapjax.captions.llm.asking import NOT_ASKED, converse, read_answer, tidy
from clapjax.captions.llm.cache import open_cache
from clapjax.captions.llm.chat import ChatConfig, in_order, negate
from tests.captions.chat_server import DROP, content, serve

pytest.importorskip("openai")

SOUNDS = ("a dog barks", "a bell rings", "a man speaks", "water drips", "a car honks", "rain falls")
PAIRS = [(a, b) for a in SOUNDS for b in SOUNDS if a != b]


def caption(i: int) -> str:
    """A different caption of two events for every i."""
    first, second = PAIRS[i % len(PAIRS)]
    return f"{first[0].upper()}{first[1:]} {i} times then {second}"


def swapped(prompt: str) -> tuple[int, dict, str]:
    """What a good model answers: the two sides of "then" exchanged."""
    first, second = prompt.removeprefix("Caption: ").split(" then ")
    return content(json.dumps({"negative_captions": [f"{second} then {first.lower()}"]}))


def config(endpoint, **settings) -> ChatConfig:
    return ChatConfig(model="m", base_url=endpoint.url, api_key="k", **settings)


@pytest.fixture
def cache(tmp_path):
    with open_cache(tmp_path / "answers") as cache:
        yield cache


def test_a_good_endpoint_is_asked_once_per_caption(cache):
    captions = [caption(i) for i in range(12)]
    with serve(lambda prompt, _: swapped(prompt)) as endpoint:
        done = list(negate(captions, 1, config(endpoint, concurrency=4), cache))
        again = list(negate(captions, 1, config(endpoint), cache))
    assert done[0].negatives == ("A bell rings then a dog barks 0 times",)
    assert all(item.reason is None and len(item.negatives) == 1 for item in done)
    assert [f"{i} times" in item.negatives[0] for i, item in enumerate(done)] == [True] * 12
    assert again == done and set(endpoint.asked.values()) == {1} and len(endpoint.asked) == 12
    assert endpoint.keys == {"Bearer k"}
    form = endpoint.requests[0]["response_format"]
    assert form["type"] == "json_schema" and form["json_schema"]["strict"]
    assert form["json_schema"]["schema"]["required"] == ["negative_captions"]


def test_every_caption_ends_validated_or_listed_as_failed(cache):
    """Each kind of trouble on some captions; what happened to each is known beforehand."""

    def behave(prompt, times):
        if not prompt.startswith("Caption:"):
            return content("again, I would not know")
        kind = int(prompt.split(" times")[0].split()[-1]) % 8
        if kind == 1 and times == 0:
            return 429, {"Retry-After": "1"}, '{"error": {"message": "slow down"}}'
        if kind == 2 and times < 2:
            return DROP
        if kind == 3 and times == 0:
            return 200, {}, '{"choices": [{"mess'
        if kind == 4 and times == 0:
            return 200, {}, '{"id": "1", "choices": []}'
        if kind == 5:
            return 500, {}, '{"error": {"message": "broken"}}'
        if kind == 6:
            return content(f"{prompt.removeprefix('Caption: ')}, I would say")
        if kind == 7:
            time.sleep(0.3)
        return swapped(prompt)

    captions = [caption(i) for i in range(32)]
    with serve(behave) as endpoint:
        settings = config(endpoint, concurrency=16, retries=2, rounds=2, timeout=20)
        done = list(negate(captions, 1, settings, cache))
    for i, item in enumerate(done):
        if i % 8 == 5:
            assert not item.negatives and item.reason.startswith("request failed: Internal"), i
        elif i % 8 == 6:
            assert not item.negatives and item.reason.startswith("answers rejected 2 times"), i
        else:
            first, second = captions[i].split(" then ")
            expected = f"{second[0].upper()}{second[1:]} then {first.lower()}"
            assert item.negatives == (expected,), i
    waits = [
        times[1] - times[0]
        for messages, times in endpoint.arrivals.items()
        if any(f" {i} times" in messages for i in range(1, 32, 8))
    ]
    assert len(waits) == 4 and min(waits) >= 1.0  # as Retry-After says
    assert len(cache) == 28 + 4  # one answer a caption, none of kind 5, two of kind 6


def test_rejected_answers_are_asked_again_with_the_reason(cache):
    text = "A dog barks before a bell rings"
    answers = [
        "I cannot do that",  # no JSON
        '{"negative_captions": ["A bell rings after a dog barks"]}',  # a paraphrase
        '{"negative_captions": ["A cat meows before a bell rings"]}',  # other events
        '{"negative_captions": ["a bell rings before a dog barks."]}',
    ]
    asked = []

    def behave(prompt, _):
        asked.append(prompt)
        return content(answers[len(asked) - 1])

    with serve(behave) as endpoint:
        (done,) = negate([text], 1, config(endpoint, rounds=4), cache)
    assert done.negatives == ("A bell rings before a dog barks",)  # case and stop of the caption
    assert asked[0] == f"Caption: {text}"
    assert "no JSON object" in asked[1]
    assert "same order" in asked[2] and "A bell rings after a dog barks" in asked[2]
    assert "its events differ" in asked[3] and "'cat'" in asked[3]
    roles = [message["role"] for message in endpoint.requests[-1]["messages"]]
    assert roles == ["system", *["user", "assistant"] * 3, "user"]


def test_captions_without_order_are_not_asked(cache):
    texts = ["Rain falls as a dog barks", "A man speaks", caption(0)]
    with serve(lambda prompt, _: swapped(prompt)) as endpoint:
        done = list(negate(texts, 1, config(endpoint), cache))
    assert [item.reason for item in done] == [NOT_ASKED, NOT_ASKED, None]
    assert len(endpoint.asked) == 1


@pytest.mark.parametrize("status", [401, 404])
def test_a_wrong_key_or_model_stops_the_job(cache, status):
    refuse = (status, {}, '{"error": {"message": "no such thing"}}')
    with (
        serve(lambda *_: refuse) as endpoint,
        pytest.raises(ValueError, match="chat: m: .*no such thing"),
    ):
        list(negate([caption(i) for i in range(8)], 1, config(endpoint), cache))


def test_the_endpoint_is_kept_busy(cache):
    """No answer goes out before 32 requests are there: the client must always have that many."""
    width, total = 32, 320
    condition = threading.Condition()
    flight = {"now": 0, "most": 0, "arrived": 0, "short": 0}
    wave = {"open": 0}

    def behave(prompt, _):
        with condition:
            flight["arrived"] += 1
            flight["now"] += 1
            flight["most"] = max(flight["most"], flight["now"])
            mine = (flight["arrived"] - 1) // width
            if flight["now"] >= width or flight["arrived"] == total:
                wave["open"] = mine + 1
                condition.notify_all()
            full = condition.wait_for(lambda: wave["open"] > mine, timeout=60)
            flight["short"] += not full
            flight["now"] -= 1
        return swapped(prompt)

    with serve(behave) as endpoint:
        captions = [caption(i) for i in range(total)]
        done = list(negate(captions, 1, config(endpoint, concurrency=width, timeout=120), cache))
    assert all(item.negatives for item in done)
    assert flight["short"] == 0 and flight["most"] == width
    assert wave["open"] == total // width


def test_killed_and_restarted_nothing_answered_is_asked_again(tmp_path, quick_env):
    total, before_kill = 60, 20
    release, gate, answered = threading.Event(), threading.Lock(), []

    def behave(prompt, _):
        with gate:
            hold = len(answered) >= before_kill and not release.is_set()
            if not hold:
                answered.append(prompt)
        if hold:
            release.wait(120)
            return DROP  # nobody is there any more
        return swapped(prompt)

    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [json.dumps({"caption": caption(i)}) for i in range(total)]
    source.write_text("\n".join(lines))
    command = [sys.executable, "-m", "clapjax", "captions", "negate", "--backend", "openai"]
    command += ["--model", "m", "--input", source, "--output", out, "--concurrency", "8"]
    with serve(behave) as endpoint:
        env = quick_env | {"OPENAI_BASE_URL": endpoint.url, "OPENAI_API_KEY": "k"}
        first = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
        _wait_for_rows(tmp_path / "out.jsonl.answers", before_kill)
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert not out.exists()
        once = set(endpoint.answered)
        assert len(once) == before_kill
        release.set()
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert all(endpoint.asked[messages] == 1 for messages in once)
    assert len(endpoint.answered) == total and set(endpoint.answered.values()) == {1}
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["captions"] for row in rows] == [[caption(i)] for i in range(total)]
    assert all(row["negative_captions"] and row["provenance"] == "human;llm:m" for row in rows)
    leftover = {path.name for path in tmp_path.iterdir()}
    assert {"in.jsonl", "out.jsonl", "out.jsonl.answers"} <= leftover
    assert "60 captions, 60 with negatives" in done.stdout


def _wait_for_rows(path, count: int) -> None:
    for _ in range(1200):
        if path.exists():
            try:
                found = sqlite3.connect(path).execute("SELECT COUNT(*) FROM answers").fetchone()
            except sqlite3.OperationalError:
                found = (0,)
            if found[0] >= count:
                return
        time.sleep(0.1)
    raise AssertionError("the answers did not come in")


def test_in_order_keeps_the_order_of_items():
    def work(i):
        time.sleep(0.02 * (i % 3))
        return i * i

    assert list(in_order(work, range(40), 8)) == [i * i for i in range(40)]


def test_in_order_hands_on_an_error_and_stops():
    started = []

    def work(i):
        started.append(i)
        if i == 3:
            raise ValueError("three")
        time.sleep(0.01)
        return i

    with pytest.raises(ValueError, match="three"):
        list(in_order(work, range(1000), 2))
    assert len(started) < 900


def test_dialogue_is_the_same_over_the_same_answers():
    def run(answers):
        dialogue = converse("A dog barks then a bell rings", 2, 3)
        said = [next(dialogue)]
        try:
            for answer in answers:
                said.append(dialogue.send(answer))
        except StopIteration as done:
            return said, done.value
        raise AssertionError

    answers = ["no", '{"negative_captions": ["A bell rings then a dog barks"]}']
    said, outcome = run(answers)
    assert (said, outcome) == run(answers)
    assert outcome.negatives == ("A bell rings then a dog barks",) and len(said) == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"),
        ('{"negative_captions": "a"}', "no list"),
        ('{"negative_captions": [1]}', "no list of strings"),
        ('{"negative_captions": []}', "is empty"),
        ('{"captions": ["a"]}', "no JSON object"),
        ("[1, 2]", "no JSON object"),
    ],
)
def test_read_answer_refuses(text, why):
    with pytest.raises(ValueError, match=why):
        read_answer(text)


def test_read_answer_finds_json_in_talk():
    assert read_answer('Sure!\n```json\n{"negative_captions": ["a", "b"]}\n```') == ["a", "b"]


def test_tidy_gives_the_style_of_the_caption():
    assert tidy("A dog barks", " a  bell\nrings. ") == "A bell rings"
    assert tidy("a dog barks.", "A bell rings") == "a bell rings."


def test_config_errors(monkeypatch, cache):
    with pytest.raises(ValueError, match="name the model"):
        ChatConfig(model="")
    with pytest.raises(ValueError, match=r"chat\.concurrency must be positive, not 0"):
        ChatConfig(model="m", concurrency=0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="set OPENAI_API_KEY"):
        list(negate([caption(0)], 1, ChatConfig(model="m"), cache))
    assert "secret" not in repr(ChatConfig(model="m", api_key="secret"))


def test_cache_survives_and_tells_prompts_and_models_apart(tmp_path):
    path = tmp_path / "answers"
    with open_cache(path) as cache:
        cache.put("m", [{"a": 1}], "one")
        cache.put("m", [{"a": 1}], "two")
        cache.put("n", [{"a": 1}], "three")
    with open_cache(path) as cache:
        assert cache.get("m", [{"a": 1}]) == "one"  # the first answer stays
        assert cache.get("n", [{"a": 1}]) == "three"
        assert cache.get("m", [{"a": 2}]) is None and len(cache) == 2
    (tmp_path / "text").write_text("this is no cache" * 100)
    with pytest.raises(ValueError, match="cannot serve as cache"), open_cache(tmp_path / "text"):
        pass
    assert os.path.getsize(tmp_path / "text") == 1600
