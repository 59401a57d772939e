"""Copies the weights of a `transformers.ClapModel` into clapjax's parameter tree, for parity tests.

Written in the tests so that the towers are checked against code that is not ours.
"""

import numpy as np


def _array(state, name):
    return state[name].detach().numpy().astype(np.float32)


def _linear(state, name):
    return {"kernel": _array(state, f"{name}.weight").T, "bias": _array(state, f"{name}.bias")}


def _norm(state, name):
    return {"scale": _array(state, f"{name}.weight"), "bias": _array(state, f"{name}.bias")}


def _qkv(state, name):
    parts = [_linear(state, f"{name}.{part}") for part in ("query", "key", "value")]
    return {key: np.concatenate([p[key] for p in parts], axis=-1) for key in ("kernel", "bias")}


def _stack(trees):
    if isinstance(trees[0], dict):
        return {key: _stack([tree[key] for tree in trees]) for key in trees[0]}
    return np.stack(trees)


def _swin_block(state, name):
    attention = f"{name}.attention"
    return {
        "norm1": _norm(state, f"{name}.layernorm_before"),
        "norm2": _norm(state, f"{name}.layernorm_after"),
        "attention": {
            "qkv": _qkv(state, f"{attention}.self"),
            "relative_position_bias": _array(
                state, f"{attention}.self.relative_position_bias_table"
            ),
            "output": _linear(state, f"{attention}.output.dense"),
        },
        "mlp": {
            "up": _linear(state, f"{name}.intermediate.dense"),
            "down": _linear(state, f"{name}.output.dense"),
        },
    }


def _audio(state, depths):
    root = "audio_model.audio_encoder"
    kernel = _array(state, f"{root}.patch_embed.proj.weight").transpose(2, 3, 1, 0)
    tree = {
        "batch_norm": _norm(state, f"{root}.batch_norm"),
        "patch_embed": {"kernel": kernel, "bias": _array(state, f"{root}.patch_embed.proj.bias")},
        "patch_norm": _norm(state, f"{root}.patch_embed.norm"),
        "norm": _norm(state, f"{root}.norm"),
    }
    for stage, depth in enumerate(depths):
        layer = f"{root}.layers.{stage}"
        pairs = [
            {f"block{i}": _swin_block(state, f"{layer}.blocks.{2 * pair + i}") for i in (0, 1)}
            for pair in range(depth // 2)
        ]
        tree[f"stage{stage}"] = _stack(pairs)
        if stage + 1 < len(depths):
            tree[f"merge{stage}"] = {
                "norm": _norm(state, f"{layer}.downsample.norm"),
                "reduction": {"kernel": _array(state, f"{layer}.downsample.reduction.weight").T},
            }
    return tree


def _text(state, layers):
    root = "text_model"
    embeddings = f"{root}.embeddings"

    def layer(index):
        name = f"{root}.encoder.layer.{index}"
        return {
            "qkv": _qkv(state, f"{name}.attention.self"),
            "output": _linear(state, f"{name}.attention.output.dense"),
            "norm1": _norm(state, f"{name}.attention.output.LayerNorm"),
            "mlp": {
                "up": _linear(state, f"{name}.intermediate.dense"),
                "down": _linear(state, f"{name}.output.dense"),
            },
            "norm2": _norm(state, f"{name}.output.LayerNorm"),
        }

    tables = {"word": "word", "position": "position", "token_type": "token_type"}
    return {
        **{
            ours: {"embedding": _array(state, f"{embeddings}.{theirs}_embeddings.weight")}
            for ours, theirs in tables.items()
        },
        "embedding_norm": _norm(state, f"{embeddings}.LayerNorm"),
        "layers": _stack([layer(i) for i in range(layers)]),
        "pooler": _linear(state, f"{root}.pooler.dense"),
    }


def variables_from_transformers(model) -> dict:
    """{"params", "batch_stats"} of clapjax from a `transformers.ClapModel` without fusion."""
    state = model.state_dict()
    norm = "audio_model.audio_encoder.batch_norm"
    projections = {
        f"{tower}_projection": {
            part: _linear(state, f"{tower}_projection.{part}") for part in ("linear1", "linear2")
        }
        for tower in ("audio", "text")
    }
    params = {
        "audio_encoder": _audio(state, model.config.audio_config.depths),
        "text_encoder": _text(state, model.config.text_config.num_hidden_layers),
        **projections,
        "logit_scale_a": _array(state, "logit_scale_a"),
        "logit_scale_t": _array(state, "logit_scale_t"),
    }
    stats = {
        "mean": _array(state, f"{norm}.running_mean"),
        "var": _array(state, f"{norm}.running_var"),
    }
    return {"params": params, "batch_stats": {"audio_encoder": {"batch_norm": stats}}}
