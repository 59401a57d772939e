"""Sentences of two events that no template of training has: what the order probe asks with.

{a} sounds before {b}: said first where the order is told forwards, last where backwards.
"""

# Each has a word that is in no template.
CONNECTIVES = {
    "forwards": (
        "{a} until {b}",
        "{a}, subsequently {b}",
        "{a} leading to {b}",
        "{a} giving way to {b}",
        "{a} prior to {b}",
    ),
    "backwards": (
        "{b} subsequent to {a}",
        "{b} in the wake of {a}",
        "{b} once {a} has ended",
        "{b} on the heels of {a}",
        "{b} as soon as {a} stops",
    ),
}

# The connectives of the templates in other sentences.
PARAPHRASES = {
    "forwards": (
        "{a} is heard before {b}",
        "{a}, and only then {b}",
        "there was {a} before {b}",
        "after {a} there was {b}",
        "what follows {a} is {b}",
    ),
    "backwards": (
        "before {b} there was {a}",
        "{b}, right after {a}",
        "{b} is heard after {a}",
        "{b}, and before that {a}",
        "{b}, but first {a}",
    ),
}
