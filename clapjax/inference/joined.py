"""What the pieces of a recording come to, joined again."""

from collections.abc import Iterator

import numpy as np

from clapjax.audio.files import AudioError

Parts = tuple[np.ndarray, np.ndarray]  # times (N, 2) in s, embeddings (N, D)


def stitch(times: np.ndarray, windows: np.ndarray, seconds: float) -> Parts:
    """(W, 2) times of windows and their (W, T, D) frames, of so many seconds each, in one row.

    Where two windows have the same frame, the first one's is taken.
    """
    count, size = windows.shape[1:]
    number = np.rint(times[:, :1] / seconds).astype(int) + np.arange(count)  # (W, T)
    number, first = np.unique(number, return_index=True)
    start, end = number * seconds, times[-1, 1]
    sounding = start < end - 1e-6  # behind the end of the recording there is only padding
    times = np.stack([start, np.minimum(start + seconds, end)], axis=1)
    return times[sounding], windows.reshape(-1, size)[first][sounding]


def mean_direction(rows: np.ndarray) -> np.ndarray:
    """(N, D) unit vectors to the (D,) direction of their mean; one alone stays as it is."""
    if len(rows) == 1:
        return rows[0]
    mean = rows.mean(axis=0, dtype=np.float64)
    return (mean / max(np.linalg.norm(mean), 1e-12)).astype(np.float32)


def only(results: Iterator):
    """The result of a single input; raises its error."""
    ((_, found),) = results
    if isinstance(found, AudioError):
        raise found
    return found
