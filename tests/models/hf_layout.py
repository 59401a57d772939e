"""Copies the weights of a `transformers.ClapModel` into clapjax's parameter tree, for parity tests.

Written in the tests so that the towers are checked against code that is not ours.
"""

import numpy as np

from tests.models.torch_models import flax_variables


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


def bert_params(state, layers, root="", pooler=True) -> dict:
    """Our text encoder's params from a transformers BertModel or RobertaModel under `root`."""
    embeddings = f"{root}embeddings"

    def layer(index):
        name = f"{root}encoder.layer.{index}"
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
        **({"pooler": _linear(state, f"{root}pooler.dense")} if pooler else {}),
    }


def clip_params(state, layers) -> dict:
    """Our text encoder's params from a transformers CLIPTextModel."""
    root = "text_model." if "text_model.final_layer_norm.weight" in state else ""

    def layer(index):
        name = f"{root}encoder.layers.{index}"
        parts = [_linear(state, f"{name}.self_attn.{part}_proj") for part in "qkv"]
        return {
            "norm1": _norm(state, f"{name}.layer_norm1"),
            "qkv": {k: np.concatenate([p[k] for p in parts], axis=-1) for k in parts[0]},
            "output": _linear(state, f"{name}.self_attn.out_proj"),
            "norm2": _norm(state, f"{name}.layer_norm2"),
            "mlp": {
                "up": _linear(state, f"{name}.mlp.fc1"),
                "down": _linear(state, f"{name}.mlp.fc2"),
            },
        }

    return {
        "word": {"embedding": _array(state, f"{root}embeddings.token_embedding.weight")},
        "position": {"embedding": _array(state, f"{root}embeddings.position_embedding.weight")},
        "layers": _stack([layer(i) for i in range(layers)]),
        "final_norm": _norm(state, f"{root}final_layer_norm"),
    }


def _fusion(encoder, mel_fusion) -> dict:
    """{"params", "batch_stats"} of the fusion in a transformers encoder (2d), or of a torch one."""
    if mel_fusion is not None:
        return flax_variables(mel_fusion)
    patches = encoder.patch_embed
    if not hasattr(patches, "mel_conv2d"):
        return {"params": {}, "batch_stats": {}}
    kernel = patches.mel_conv2d.weight.detach().numpy().transpose(2, 3, 1, 0)
    conv = {"kernel": kernel, "bias": patches.mel_conv2d.bias.detach().numpy()}
    joined = {}
    for name in ("local_att", "global_att", "local_att2"):
        branch = getattr(patches.fusion_model, name, None)
        if branch is None:
            continue
        parts = [part for part in branch if any(True for _ in part.parameters())]
        for ours, part in zip(("conv1", "norm1", "conv2", "norm2"), parts, strict=True):
            tree = flax_variables(part)
            for group in ("params", "batch_stats"):
                if tree[group]:
                    joined.setdefault(group, {}).setdefault(name, {})[ours] = tree[group]
    return {
        "params": {"mel_conv2d": conv, "fusion_model": joined["params"]},
        "batch_stats": {"fusion_model": joined["batch_stats"]},
    }


def audio_variables_from_transformers(model, mel_fusion=None) -> dict:
    """{"params", "batch_stats"} of our HTSAT from a `transformers.ClapModel`, fused or not.

    `mel_fusion` is a torch_models.MelFusion that stands before it.
    """
    state, encoder = model.state_dict(), model.audio_model.audio_encoder
    norm = "audio_model.audio_encoder.batch_norm"
    stats = {
        "mean": _array(state, f"{norm}.running_mean"),
        "var": _array(state, f"{norm}.running_var"),
    }
    fusion = _fusion(encoder, mel_fusion)
    extra = {group: {"fusion": tree} if tree else {} for group, tree in fusion.items()}
    return {
        "params": _audio(state, model.config.audio_config.depths) | extra["params"],
        "batch_stats": {"batch_norm": stats} | extra["batch_stats"],
    }


def variables_from_transformers(model) -> dict:
    """{"params", "batch_stats"} of clapjax from a `transformers.ClapModel`, fused or not."""
    state = model.state_dict()
    audio = audio_variables_from_transformers(model)
    projections = {
        f"{tower}_projection": {
            part: _linear(state, f"{tower}_projection.{part}") for part in ("linear1", "linear2")
        }
        for tower in ("audio", "text")
    }
    params = {
        "audio_encoder": audio["params"],
        "text_encoder": bert_params(
            state, model.config.text_config.num_hidden_layers, "text_model."
        ),
        **projections,
        "logit_scale_a": _array(state, "logit_scale_a"),
        "logit_scale_t": _array(state, "logit_scale_t"),
    }
    return {"params": params, "batch_stats": {"audio_encoder": audio["batch_stats"]}}
