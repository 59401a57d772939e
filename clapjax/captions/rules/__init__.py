"""Temporal negatives by a small grammar: the same events in another order (T-CLAP 2.3)."""
