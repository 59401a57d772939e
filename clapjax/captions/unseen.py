"""Sentences of two events that no template of training has: what the order probe asks with.

{a} sounds before {b}. As many name it first as not: who reads the order of the words alone gets
half of them right.
"""

# Each has a word that is in no template.
CONNECTIVES = (
    "{a} until {b}",
    "{a}, subsequently {b}",
    "{a} leading to {b}",
    "{a} giving way to {b}",
    "{a} prior to {b}",
    "{b} subsequent to {a}",
    "{b} in the wake of {a}",
    "{b} once {a} has ended",
    "{b} on the heels of {a}",
    "{b} as soon as {a} stops",
)

# The connectives of the templates in other sentences.
PARAPHRASES = (
    "{a} is heard before {b}",
    "{a}, and only then {b}",
    "there was {a} before {b}",
    "after {a} there was {b}",
    "what follows {a} is {b}",
    "before {b} there was {a}",
    "{b}, right after {a}",
    "{b} is heard after {a}",
    "{b}, and before that {a}",
    "{b}, but first {a}",
)
