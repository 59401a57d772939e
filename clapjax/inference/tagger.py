"""A tagger ready to use: which labels a recording has."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import numpy as np

from clapjax.audio.files import AudioError
from clapjax.inference.forward import in_float32
from clapjax.inference.hear import hear, make_cutter
from clapjax.inference.inputs import Audio, each_input
from clapjax.inference.place import Place, describe_model, find_place
from clapjax.models.config import ClapConfig
from clapjax.plain import check_count
from clapjax.tasks.tagging import TaggingConfig, tagging
from clapjax.tasks.task import Setting


class Tagger:
    """A model that a run of the tagging task has trained, ready to tell its labels.

    As with `Clap`, the same input gives the same probabilities, bit for bit, alone or among others,
    and `long=` says how audio is heard that is longer than a clip; of windows the mean counts.
    """

    def __init__(
        self,
        config: ClapConfig,
        settings: TaggingConfig,
        variables: dict,
        batch_size: int = 16,
        forward: Mapping[str, Callable] | None = None,
        *,
        place: Place | None = None,
    ):
        """`settings` names the labels, in the order of the head's outputs; `place` is as of `Clap`.

        With `forward` it computes by that function of (variables, arrays), "audio", on the devices
        on which its variables are (`clapjax.training.rows.make_forward`).
        """
        check_count(batch_size, "batch_size")
        outputs = variables["params"]["head"]["bias"].shape[0]
        if len(settings.labels) != outputs:
            raise ValueError(f"{len(settings.labels)} labels, and the head tells {outputs} apart")
        self.config, self.settings, self.batch_size = config, settings, batch_size
        self.labels = settings.labels
        self.place = place = place or find_place()
        if forward is None:
            function = _compiled(place.at_work(config), settings, place.device, place.exact)
            forward = {"audio": function}
            variables = jax.device_put(variables, place.device)
        self.variables = variables
        self._audio = forward["audio"]
        self._devices = len(jax.tree.leaves(variables)[0].sharding.device_set)

    def __repr__(self) -> str:
        return describe_model(self, self.place, f"{len(self.labels)} labels")

    def tag(
        self,
        audio: Iterable[Audio] | Audio,
        sampling_rate: int | None = None,
        *,
        long: str | None = None,
        hop: float | None = None,
    ) -> np.ndarray:
        """How probable each label is.

        Args:
          audio, sampling_rate, long, hop: as `Clap.embed_audio` has them.

        Returns:
          (N, C) float32 in 0..1, in the order of `labels`; each label for itself, or summing up to
          1 where the model was trained with tagging.loss "ce".

        Raises:
          AudioError: an input that is missing, broken, empty or of the wrong kind.
          ValueError: no such `long`, or one that this model has not.
        """
        rows: dict[int, np.ndarray] = {}
        for index, found in self.each(audio, sampling_rate, long=long, hop=hop):
            if isinstance(found, AudioError):
                raise found
            rows[index] = found
        if not rows:
            return np.zeros((0, len(self.labels)), np.float32)
        return np.stack([rows[index] for index in range(len(rows))])

    def likely(self, probabilities: np.ndarray, threshold: float = 0.5) -> tuple[str, ...]:
        """The labels that are at least so probable, of a (C,) row of `tag`; the likeliest first."""
        order = np.argsort(-probabilities, kind="stable")
        return tuple(self.labels[at] for at in order if probabilities[at] >= threshold)

    def each(
        self,
        audio: Iterable[Audio] | Audio,
        sampling_rate: int | None = None,
        *,
        long: str | None = None,
        hop: float | None = None,
    ) -> Iterator[tuple[int, np.ndarray | AudioError]]:
        """`tag` one by one: (number of the input, its (C,) probabilities or its error).

        A broken input does not stop the others. Inputs of another length may come first.
        """
        cutter = make_cutter(self.config, sampling_rate, long, hop)

        def run(samples: np.ndarray, lengths: np.ndarray) -> jax.Array:
            return self._audio(self.variables, samples, lengths)

        inputs, workers = each_input(audio), self.place.workers
        for index, found in hear(run, cutter, inputs, self.batch_size, self._devices, workers):
            yield index, found if isinstance(found, AudioError) else found[1].mean(axis=0)


@functools.lru_cache(maxsize=8)
def _compiled(
    config: ClapConfig, settings: TaggingConfig, device: jax.Device, exact: bool
) -> Callable:
    """The function of a configuration; what one tagger compiles, others of it find."""
    where = Setting(jax.sharding.Mesh(np.array([device]), ("data",)))
    function = functools.partial(tagging(config, settings).forward["audio"], setting=where)
    return jax.jit(in_float32(function) if exact else function)
