"""Temporal negatives of real captions: the same events in another order (T-CLAP 2.3).

`rules` writes them by a small grammar, `chat` and `local` ask language models; `backends` runs a
mixture of the three over a file of captions. `validation` says whether an answer is a negative,
`shortcut` whether a text-only classifier can spot the negatives, `balance` removes what helps it.
"""
