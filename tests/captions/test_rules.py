"""Temporal negatives by rules: the hand-checked sample, what is left out, and what must hold."""

import csv
import hashlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from clapjax.captions.rules import rules
from clapjax.captions.rules.connectives import states_order
from clapjax.captions.rules.rules import negate
from clapjax.captions.rules.words import inflect, lemma, number
from clapjax.captions.templates import TWO_EVENTS
from clapjax.captions.validation import why_not
from tests.conftest import SHARED

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "audiocaps_train_negatives.jsonl"


def one(caption: str) -> str:
    """The only negative of a caption of two events."""
    (negative,) = negate(caption).negatives
    return negative


# --- real captions --------------------------------------------------------------------------


def _golden() -> list[dict]:
    return [json.loads(line) for line in GOLDEN.read_text().splitlines()]


def _captions(name: str) -> list[str]:
    path = SHARED / "captions" / name
    if not path.is_file():
        pytest.skip("AudioCaps captions are not beside this checkout (../shared/data/captions)")
    with path.open(newline="") as file:
        return [row["caption"] for row in csv.DictReader(file)]


def test_at_most_4_of_the_200_judged_negatives_are_wrong():
    rows = _golden()
    assert len(rows) == len({row["caption"] for row in rows}) == 200
    wrong = [row for row in rows if row["verdict"] != "right"]
    assert all(row["verdict"].startswith("wrong: ") for row in wrong) and len(wrong) <= 4


def test_the_judged_negatives_are_what_is_written():
    for row in _golden():
        assert negate(row["caption"]).negatives == (row["negative"],)


def test_judged_captions_are_chosen_by_their_hash():
    """No caption between the first and the last of them has a negative and was left out."""
    rows = _golden()
    digests = {caption: _digest(caption) for caption in set(_captions("audiocaps_train.csv"))}
    first, last = _digest(rows[0]["caption"]), _digest(rows[-1]["caption"])
    tuned_on = set(_captions("audiocaps_val.csv"))
    between = sorted((d, c) for c, d in digests.items() if first <= d <= last)
    fresh = [c for _, c in between if c not in tuned_on and negate(c).negatives]
    assert fresh == [row["caption"] for row in rows]


def _digest(caption: str) -> str:
    return hashlib.sha256(caption.encode()).hexdigest()


def test_coverage_of_real_captions():
    stated = [caption for caption in _captions("audiocaps_val.csv") if states_order(caption)]
    done = [negate(caption) for caption in stated]
    assert len(stated) == 531
    assert sum(bool(item.negatives) for item in done) / len(stated) >= 0.8
    for caption, item in zip(stated, done, strict=True):
        assert bool(item.negatives) != bool(item.reason)
        for negative in item.negatives:
            assert negative.lower() != caption.lower()
            assert negative[0].isupper() == caption[0].isupper()
            assert negative.endswith(".") == caption.endswith(".")


def test_any_words_have_negatives_or_a_reason():
    """Sentences of words at random: no error, and a negative has its caption's words."""
    generator = random.Random(0)
    words = ["a", "another", "the", "man", "dogs", "bark", "barks", "speaking", "runs", "idle"]
    words += ["of", "by", "and", ",", "as", "it", "is", "loud"]
    links = ["then", "before", "after", "followed by", "is followed by", ", and then"]
    for _ in range(400):
        parts = [" ".join(generator.choices(words, k=generator.randint(1, 5))) for _ in range(3)]
        caption = f"{parts[0]} {generator.choice(links)} {parts[1]} {generator.choice(links)} "
        done = negate(caption + parts[2], count=9)
        assert bool(done.negatives) != bool(done.reason)
        assert all(why_not(caption + parts[2], text) is None for text in done.negatives)
    many = " then ".join(
        f"a {noun} barks" for noun in ("dog", "fox", "cat", "cow", "pig", "owl", "hen")
    )
    assert negate(many).reason == rules.GRAMMAR  # not all orders are tried


# --- wording --------------------------------------------------------------------------------

WRITTEN = {
    # the connective stays, the events change places
    "A dog barks before a man speaks": "A man speaks before a dog barks",
    "A dog barks after a man speaks": "A man speaks after a dog barks",
    "After a man speaks, a dog barks": "After a dog barks, a man speaks",
    "Before a man speaks, a dog barks": "Before a dog barks, a man speaks",
    "First a man speaks, then a dog barks": "First a dog barks, then a man speaks",
    "A gunshot is followed by splashing": "Splashing is followed by a gunshot",
    "Two beeps are followed by a hum": "A hum is followed by two beeps",
    "A thud preceded by footsteps": "Footsteps preceded by a thud",
    "A thud proceeded by footsteps": "Footsteps proceeded by a thud",
    "A dog barks, and eventually a man speaks": "A man speaks, and eventually a dog barks",
    "A dog barks, after which a man speaks": "A man speaks, after which a dog barks",
    "Rain ending with thunder": "Thunder ending with rain",
    "Hissing leading to an explosion": "An explosion leading to hissing",
    # every event takes the form of its new place
    "A man speaks followed by a dog barking": "A dog barks followed by a man speaking",
    "A man speaking followed by a dog barking": "A dog barking followed by a man speaking",
    "Water runs followed by birds chirping": "Birds chirp followed by water running",
    "A horn is blown followed by a man laughing": "A man laughs followed by a horn being blown",
    "Rustling occurs followed by a click": "A click followed by rustling",
    "A man is speaking followed by a click": "A click followed by a man speaking",
    "A dog growls before barking": "A dog barks before growling",
    "An engine is idling before revving": "An engine is revving before idling",
    "A man is speaking then laughs and coughs": "A man is laughing and coughing then speaks",
    "A man speaks then begins laughing": "A man begins laughing then speaks",
    # one subject for both
    "A dog barks and then growls": "A dog growls and then barks",
    "Music plays and a dog barks then growls": "Music plays and a dog growls then barks",
    # what sounds together stays together
    "A man speaks as wind blows, followed by a dog barking": (
        "A dog barks, followed by a man speaking as wind blows"
    ),
    "Wind blows and rain falls before a bell rings": (
        "A bell rings before wind blows and rain falls"
    ),
    "Thunder roars followed by a man speaking while rain falls": (
        "A man speaks while rain falls followed by thunder roaring"
    ),
    # references
    "A man coughs, then another man speaks": "A man speaks, then another man coughs",
    "The sound of rain then the sound of a dog": "The sound of a dog then the sound of rain",
    # plural nouns that look like verbs
    "Man talking, then sounds of engine accelerating": (
        "Sounds of engine accelerating, then man talking"
    ),
    "A man speaks followed by beeps of a truck": "Beeps of a truck followed by a man speaking",
    "A dog barks then cries of a baby": "Cries of a baby then a dog barks",
    "Man speaking then pounding of a hammer": "Pounding of a hammer then man speaking",
    # verbs that are in no list of ours
    "A man sympathizes then a lamp flickers": "A lamp flickers then a man sympathizes",
    "A whistle resounds followed by a man gesticulating": (
        "A man gesticulates followed by a whistle resounding"
    ),
    # case, names, letters, punctuation
    "A señor speaks then a naïve dog barks": "A naïve dog barks then a señor speaks",
    "An English man speaks followed by a dog barking.": (
        "A dog barks followed by an English man speaking."
    ),
    "TV noise followed by a bang": "A bang followed by TV noise",
    "a click followed by a hum": "a hum followed by a click",
}


@pytest.mark.parametrize("caption", WRITTEN)
def test_wording(caption):
    assert one(caption) == WRITTEN[caption]


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("A man speaks as a dog barks", rules.TOGETHER),
        ("Wind blowing, birds chirping and a man speaking", rules.TOGETHER),
        ("A man speaks", rules.NO_ORDER),
        ("A man speaks followed by a man speaking", rules.SAME),
        ("A man speaks then another man talks", rules.SAME),
        ("A man laughs followed by a dog barking then a man laughing", rules.SAME),
        ("A dog barks then barks again", rules.REFERS + "again"),
        ("A bang followed by a louder bang", rules.REFERS + "louder"),
        ("Rain falls and then it continues to rain", rules.REFERS + "it"),
        ("A man speaks followed by more speech", rules.REFERS + "more"),
        ("A man opens a door and then closes it", rules.REFERS + "it"),
        ("A dog barks then stops", rules.REFERS + "stops"),
        ("A man speaks and then he laughs", rules.REFERS + "he"),
        ("A big dog barks then the dog growls", rules.REFERS + "the"),
        (
            "A man laughs, then another man speaks, then another man coughs",
            rules.REFERS + "another",
        ),
        ("A man speaks as a motor runs then stops", rules.AMBIGUOUS),
        ("A dog barks as a vehicle idles then accelerates", rules.AMBIGUOUS),
        ("Speaking following by clapping", rules.GRAMMAR),
        ("A man speaks and then laughs as wind blows", rules.AMBIGUOUS),
        ("A vehicle accelerates, turns, then slows down", rules.GRAMMAR),
        ("Gunfire and an explosion occurs then a man speaks", rules.GRAMMAR),
        # one event, whose manner changes
        ("A person types rapidly and then slowly on a keyboard", rules.GRAMMAR),
        ("A baby is crying quietly then loudly", rules.GRAMMAR),
        ("A gurgling then loud engine revving sound", rules.GRAMMAR),
        ("A loud then soft noise", rules.GRAMMAR),
        # a connective inside a clause
        ("A man speaks as moments later goats bleat", rules.GRAMMAR),
        ("A man speaks while then a dog barks", rules.GRAMMAR),
        ("Gunfire with effects that continue after a man speaks", rules.GRAMMAR),
        # a verb phrase of which it is not told whose it is
        ("A scream is followed by a man laughing then bleats", rules.AMBIGUOUS),
        ("A scream followed by a dog barking and then growls", rules.AMBIGUOUS),
        ("A man speaking then laughing", rules.AMBIGUOUS),
        ("The sound of horses trotting and then neighing", rules.AMBIGUOUS),
        ("Hissing of steam with a girl speaking then burping", rules.AMBIGUOUS),
        ("A car running and accelerating and then stopping", rules.AMBIGUOUS),
        ("A man explaining something then drops the tool used for sawing", rules.GRAMMAR),
        ("A vehicle accelerates then runs idle", rules.GRAMMAR),
        ("A telephone rings before a woman answers speaking", rules.GRAMMAR),
        # what goes on throughout, and what refers to it
        ("A machine runs throughout, a whine is followed by a man speaking", rules.GRAMMAR),
        ("Sirens sound before abruptly stopping", rules.REFERS + "stopping"),
        # no event of its own
        ("Humming followed by a man then a woman talking", rules.GRAMMAR),
        ("Cars passing followed by a train, loudly honking a horn", rules.GRAMMAR),
        ("A dog barks (twice) then a man speaks", rules.SIGNS),
        ("Dogs bark one after the other", rules.GRAMMAR),
        ("A frobnication glorks then a man speaks", rules.GRAMMAR),
    ],
)
def test_left_out_with_a_reason(caption, reason):
    done = negate(caption)
    assert done.negatives == () and done.reason == reason


def test_every_now_and_then_is_no_order():
    assert negate("A dog barks every now and then").negatives == ()
    assert negate("A bee buzzes before and after a thud").negatives == ()


# --- several negatives ----------------------------------------------------------------------

THREE = "A dog barking followed by a man speaking and then a bell ringing"


def test_three_events_have_five_wrong_orders():
    found = negate(THREE, count=10).negatives
    events = ("a dog barking", "a man speaking", "a bell ringing")
    orders = {tuple(sorted(events, key=text.lower().index)) for text in found}
    assert len(found) == len(orders) == 5 and events not in orders
    assert all(" followed by " in text and " and then " in text for text in found)


def test_count_and_seed():
    assert len(negate(THREE, count=3).negatives) == 3
    assert negate(THREE, 3, seed=1) == negate(THREE, 3, seed=1)
    assert len({negate(THREE, 1, seed=seed).negatives for seed in range(30)}) == 5
    assert set(negate(THREE, 10, seed=1).negatives) == set(negate(THREE, 10, seed=2).negatives)


def test_the_last_of_a_comma_list_always_moves():
    """In "A, B, then C" only C is certainly later."""
    for text in negate("Rain falls, a dog barks, then a bell rings", count=10).negatives:
        assert not text.endswith("then a bell rings")


def test_a_reference_stays_behind_its_noun():
    caption = "A guy speaks followed by sizzling and then more speaking"
    assert negate(caption, count=10).negatives == (
        "Sizzling followed by a guy speaking and then more speaking",
    )


# --- against captions whose order is known ---------------------------------------------------

# The caption templates of mix-ups: {a} sounds first, whichever is said first.
FORWARD = [t for t in TWO_EVENTS if t.index("{a}") < t.index("{b}")]


@pytest.mark.parametrize("template", TWO_EVENTS)
def test_templates_of_known_order_are_turned(template):
    """The negative is the same template with the two events exchanged, or nothing."""
    right = template.format(a="a loud bang", b="a soft hum").capitalize()
    wrong = template.format(a="a soft hum", b="a loud bang").capitalize()
    done = negate(right)
    assert done.negatives in ((wrong,), ())
    if template in FORWARD and "precedes" not in template and "after that" not in template:
        assert done.negatives == (wrong,)


@pytest.mark.parametrize("first", ["A dog barks", "Rain falls as wind blows", "People laugh"])
@pytest.mark.parametrize("second", ["a bell rings", "birds chirp and tweet", "a car starts"])
def test_before_turned_is_never_after(first, second):
    """ "B after A" says the same as "A before B": events or connective change, never both."""
    text = one(f"{first} before {second}")
    assert " before " in text and " after " not in text
    assert text.lower() == f"{second} before {first}".lower()
    assert one(text).lower() == f"{first} before {second}".lower()  # twice is the caption again


# --- words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "ing", "s"),
    [
        ("speak", "speaking", "speaks"),
        ("run", "running", "runs"),
        ("drive", "driving", "drives"),
        ("cry", "crying", "cries"),
        ("play", "playing", "plays"),
        ("rev", "revving", "revs"),
        ("occur", "occurring", "occurs"),
        ("crash", "crashing", "crashes"),
        ("buzz", "buzzing", "buzzes"),
        ("go", "going", "goes"),
        ("moo", "mooing", "moos"),
        ("die", "dying", "dies"),
        ("panic", "panicking", "panics"),
        ("have", "having", "has"),
        ("clip-clop", "clip-clopping", "clip-clops"),
    ],
)
def test_verb_forms(base, ing, s):
    assert (inflect(base, "gerund")[0], inflect(base, "third")[0]) == (ing, s)
    assert lemma(ing) == lemma(s) == base


# Verb: gerund, past, participle, where rules of ours and lemminflect differed.
DIFFERED = {
    "baa": "baaing baaed", "cling": "clinging clung", "dig": "digging dug",
    "draw": "drawing drew drawn", "fling": "flinging flung", "keep": "keeping kept",
    "let": "letting let", "mimic": "mimicking mimicked", "overlap": "overlapping overlapped",
    "rewind": "rewinding rewound", "rise": "rising rose risen", "set": "setting set",
    "sink": "sinking sank sunk", "skim": "skimming skimmed", "spread": "spreading spread",
    "stride": "striding strode stridden", "swear": "swearing swore sworn",
    "teach": "teaching taught", "unzip": "unzipping unzipped", "weep": "weeping wept",
    "win": "winning won",
}  # fmt: skip


@pytest.mark.parametrize("base", DIFFERED)
def test_verb_forms_that_rules_of_ours_had_wrong(base):
    ing, *pasts = DIFFERED[base].split()
    assert inflect(base, "gerund")[0] == ing
    assert list(dict.fromkeys(inflect(base, "past"))) == pasts
    assert {lemma(word) for word in (ing, *pasts)} <= {base, *pasts}


def test_importing_clapjax_does_not_load_the_dictionary():
    code = "import sys, clapjax, clapjax.captions.backends; print('lemminflect' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("a man", "s"),
        ("a man and a woman", "p"),
        ("birds in a tree", "p"),
        ("a flock of birds", "p"),
        ("a series of beeps", "s"),
        ("the sound of waves", "s"),
        ("people", "p"),
        ("sheep", "p"),
        ("a sheep", "s"),
        ("a bus", "s"),
        ("a few clicks", "p"),
        ("water", "s"),
        ("several loud bangs", "p"),
    ],
)
def test_number(phrase, expected):
    assert number(phrase.split()) == expected


def test_states_order():
    assert states_order("A man speaks, Then a dog barks")
    assert states_order("A thud preceded by steps")
    assert not states_order("A strengthening wind blows as a man speaks")
