"""Vectors that lie as embeddings of a large library do, in any number, block by block.

Groups of different sizes (as of Zipf's law) within groups; a direction that all share, as those of
CLAP's sounds do; and a spectrum that falls within each group, so that neighbours differ in few
directions. Texts share another direction, so that their cosines to sounds are small.
"""

import numpy as np

BLOCK = 2**16
SUPERGROUPS, GROUPS = 300, 10_000


class Made:
    """The library of a seed: `block(i)` is the same whenever it is asked for."""

    def __init__(self, size: int = 512, seed: int = 0):
        generator = np.random.default_rng(seed)

        def draw(*shape: int) -> np.ndarray:
            return generator.normal(size=shape).astype(np.float32) / np.float32(size**0.5)

        self.size, self.seed = size, seed
        above = draw(SUPERGROUPS, size)[generator.integers(0, SUPERGROUPS, GROUPS)]
        self._centres = 0.8 * above + 0.6 * draw(GROUPS, size)
        weights = 1 / np.arange(1, GROUPS + 1) ** 0.7
        self._shares = np.cumsum(weights) / weights.sum()
        spectrum = (np.arange(size, dtype=np.float32) + 4) ** -0.5
        spectrum *= np.float32(size**0.5) / np.linalg.norm(spectrum)
        turned = np.linalg.qr(generator.normal(size=(size, size)))[0].astype(np.float32)
        self._within = spectrum[:, None] * turned  # noise to what differs within a group
        self._shared = {"sounds": draw(size), "words": draw(size)}

    def block(self, number: int, rows: int = BLOCK) -> np.ndarray:
        """(rows, D) float32 of unit length."""
        return self._draw(rows, (self.seed, 1, number), "sounds", 0.8)

    def queries(self, kind: str, count: int) -> np.ndarray:
        """(count, D) that are not in the library: "sounds" as in it, or "words" for its groups."""
        return self._draw(count, (self.seed, 2), kind, 0.8 if kind == "sounds" else 0.5)

    def _draw(self, rows: int, seed: tuple, kind: str, spread: float) -> np.ndarray:
        generator = np.random.default_rng(seed)
        groups = np.searchsorted(self._shares, generator.random(rows)).clip(0, GROUPS - 1)
        noise = generator.standard_normal((rows, self.size), np.float32) @ self._within
        noise *= np.float32(spread / self.size**0.5)
        found = 0.8 * self._shared[kind] + self._centres[groups] + noise
        return found / np.linalg.norm(found, axis=1, keepdims=True)
