"""Both towers over the global batch: waveforms and token ids in, embeddings out.

All of it runs under `jax.shard_map`: each device encodes its own rows, and what passes between them
is written down here and in the models' batch norms. Under plain jit the FFT would gather the batch
(jax issue 15680), and a split parameter could split the activations instead.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from clapjax.audio.fusion import fusion_mels
from clapjax.audio.mel import log_mel
from clapjax.models.clap import Clap, cast_kernels, compute_dtype
from clapjax.models.config import ClapConfig
from clapjax.training.config import TrainConfig
from clapjax.training.mesh import BATCH_AXES, BATCH_SPEC, split_axis


def make_encoder(config: TrainConfig, mesh: Mesh, specs: dict) -> Callable[..., tuple]:
    """The towers as one function of global arrays.

    With micro-batches (GradCache: Gao et al., arXiv 2101.06983) each device runs through its rows
    in so many parts, keeps nothing of them but the embeddings, and computes a part again when its
    gradient is due. Row r belongs to part r modulo their number, on any mesh. A part has random
    numbers of its own, the same ones when it is computed again. Its batch norms take the statistics
    of the part, over all devices; the running ones move by the mean over the parts.

    Args:
      config: model, remat, micro_batches, and whether the wrong captions are needed.
      mesh: where it runs.
      specs: PartitionSpecs of the parameters.

    Returns:
      A function of (params, batch_stats, batch, key) to (embeddings, next batch_stats). The batch
      is that of `clapjax.data.pipeline.train_batches`; a model with fusion takes longer waveforms
      (B, T) too, with "lengths" (B,) int32. The embeddings are (B, D) float32: "audio", "text",
      "negative" where those captions are needed, and with a second head the same as "audio_mlp",
      "text_mlp", "negative_mlp".
    """
    platform = mesh.devices.flat[0].platform
    dtype = compute_dtype(config.model, platform)
    model = Clap(config.model, dtype, config.remat, single_blocks=platform == "tpu")
    negatives = needs_negatives(config)
    parts = config.micro_batches

    def part(params: dict, batch_stats: dict, batch: dict, key: jax.Array) -> tuple[dict, dict]:
        augment_key, dropout_key = key
        ids, mask = _captions(batch, negatives)
        outputs, updates = model.apply(
            {"params": cast_kernels(params, dtype), "batch_stats": batch_stats},
            input_ids=ids,
            mask=mask,
            train=True,
            **_front_end(config.model, batch, augment_key),
            rngs={"augment": augment_key, "dropout": dropout_key},
            mutable=["batch_stats"],
        )
        audio, text, _, _, *second = outputs
        named = _named(audio, text, "")
        if second:
            named |= _named(*second, "_mlp")
        return named, updates["batch_stats"]

    def local(params: dict, batch_stats: dict, batch: dict, key: jax.Array) -> tuple[dict, dict]:
        if mesh.size > 1:
            params = jax.tree.map(_whole, params, specs)
            key = jax.vmap(jax.random.fold_in, (0, None))(key, lax.axis_index(BATCH_AXES))
        if parts == 1:
            return part(params, batch_stats, batch, key)
        rows = len(batch["audio"]) // parts

        def visit(_, index):
            at = index + parts * jnp.arange(rows)
            taken = jax.tree.map(lambda x: jnp.take(x, at, axis=0, mode="clip"), batch)
            keys = jax.vmap(jax.random.fold_in, (0, None))(key, index)
            return None, part(params, batch_stats, taken, keys)

        # What is kept of a part is its number; in a loop nothing can merge the two computations.
        visit = jax.checkpoint(visit, prevent_cse=False)
        _, (embeddings, stats) = lax.scan(visit, None, jnp.arange(parts))
        embeddings = jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(-1, x.shape[-1]), embeddings)
        return embeddings, jax.tree.map(lambda x: x.mean(axis=0), stats)

    if mesh.size == 1:
        return local
    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(specs, P(), BATCH_SPEC, P()),
        out_specs=(BATCH_SPEC, P()),
    )


def needs_negatives(config: TrainConfig) -> bool:
    """Whether the loss looks at the captions in a wrong order."""
    return config.loss.temporal_weight > 0 or config.loss.negatives != "none"


def _whole(x: jax.Array, spec: P) -> jax.Array:
    """A parameter as every device needs it, in full.

    Declared as different on each device, so that its gradient is summed up locally, over layers and
    micro-batches, and reduced once at the end: by a reduce-scatter where the parameter is split.
    """
    axis = split_axis(spec)
    if axis is None:
        return lax.pcast(x, BATCH_AXES, to="varying")
    # In this order the gradient is scattered over one axis before it is reduced over the other.
    return lax.all_gather(lax.pcast(x, "data", to="varying"), "fsdp", axis=axis, tiled=True)


def _front_end(config: ClapConfig, batch: dict, key: jax.Array) -> dict:
    """Waveforms to the mels that the model takes, and what it must know about their rows."""
    audio, lengths = batch["audio"], batch.get("lengths")
    if config.fusion.type != "none":
        mel, longer = fusion_mels(
            audio,
            lengths,
            config.audio,
            key=jax.random.fold_in(key, 1),
            antialias=config.fusion.antialias,
            double=False,
        )
        return {"mel": mel, "longer": longer}
    mel = log_mel(audio, config.audio, lengths=lengths, double=False)
    frames = None if lengths is None else lengths // config.audio.hop_length + 1
    return {"mel": mel, "lengths": frames}


def _captions(batch: dict, negatives: bool) -> tuple[jax.Array, jax.Array]:
    """Token ids and mask: (B, L), or (2B, L) with the negatives behind the positives."""
    if not negatives:
        return batch["input_ids"], batch["mask"]
    return tuple(
        jnp.concatenate([batch[positive], batch[negative]])
        for positive, negative in (("input_ids", "negative_ids"), ("mask", "negative_mask"))
    )


def _named(audio: jax.Array, text: jax.Array, suffix: str) -> dict[str, jax.Array]:
    """Embeddings by name; text (B, D), or (2B, D) with the negatives behind the positives."""
    rows = audio.shape[0]
    named = {"audio": audio, "text": text[:rows]}
    if text.shape[0] > rows:
        named["negative"] = text[rows:]
    return {name + suffix: x for name, x in named.items()}
