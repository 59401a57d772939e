"""The name pairs: transformers' ClapModel, LAION-CLAP and BLAT."""

from clapjax.interop.layout import Row
from clapjax.models.config import PANN_BLOCKS, ClapConfig
from clapjax.models.feature_fusion import split_type

QKV = ("query", "key", "value")

# Inside one Swin block.
TRANSFORMERS_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attention/qkv": "attention.self.{part}",
    "attention/relative_position_bias": "attention.self.relative_position_bias_table",
    "attention/output": "attention.output.dense",
    "mlp/up": "intermediate.dense",
    "mlp/down": "output.dense",
}
LAION_BLOCK = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention/qkv": "attn.qkv",
    "attention/relative_position_bias": "attn.relative_position_bias_table",
    "attention/output": "attn.proj",
    "mlp/up": "mlp.fc1",
    "mlp/down": "mlp.fc2",
}
# One layer of BERT and RoBERTa, which all three projects take from transformers.
BERT_LAYER = {
    "qkv": "attention.self.{part}",
    "output": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "mlp/up": "intermediate.dense",
    "mlp/down": "output.dense",
    "norm2": "output.LayerNorm",
}

CLIP_LAYER = {
    "norm1": "ln_1",
    "qkv": "attn.in_proj_",
    "output": "attn.out_proj",
    "norm2": "ln_2",
    "mlp/up": "mlp.c_fc",
    "mlp/down": "mlp.c_proj",
}
# An attention branch of feature fusion; the global one has a pooling in front.
LOCAL_ATTENTION = {"conv1": 0, "norm1": 1, "conv2": 3, "norm2": 4}
GLOBAL_ATTENTION = {"conv1": 1, "norm1": 2, "conv2": 4, "norm2": 5}

# Regular expressions of names that may be there and do not touch the embedding: buffers, the mel
# front end, tagging heads, iaff's second global attention (which LAION-CLAP never calls), and the
# heads of its mlp_loss.
_BUFFERS = r".*\.num_batches_tracked|.*\.relative_position_index|.*\.(position|token_type)_ids"
TRANSFORMERS_IGNORED = _BUFFERS
LAION_IGNORED = (
    rf"{_BUFFERS}|attn_mask|.*\.attn_mask|.*_extractor\..*|.*\.global_att2\..*"
    r"|audio_branch\.(tscam_conv|head|fc_audioset)\..*|(audio|text)_transform\..*"
)
TAGGER_IGNORED = rf"{_BUFFERS}|.*\.attn_mask|.*_extractor\..*|.*\.global_att2\..*|(.*\.)?head\..*"
BLAT_IGNORED = rf"{_BUFFERS}|audio_encoder\.(melspec_extractor|fc_audioset)\..*|.*\.pooler\..*"


def transformers_rows(config: ClapConfig) -> list[Row]:
    """`transformers.ClapModel`."""
    audio = "audio_model.audio_encoder"
    return [
        *_htsat(config, f"{audio}.", "batch_norm", TRANSFORMERS_BLOCK),
        *_image_fusion(f"{audio}.patch_embed.mel_conv2d", f"{audio}.patch_embed.fusion_model"),
        *_bert(config, "text_model"),
        *_same("logit_scale_a", "logit_scale_t"),
        *_same(*(f"{side}_projection/linear{i}" for side in ("audio", "text") for i in (1, 2))),
    ]


def laion_rows(config: ClapConfig) -> list[Row]:
    """LAION-CLAP's `CLAP`."""
    text = "text_branch"
    rows = [
        *audio_rows(config, "audio_branch."),
        *(_clip(config, text) if config.text.arch == "clip" else _bert(config, text)),
        *_same("logit_scale_a", "logit_scale_t"),
    ]
    for side in ("audio", "text"):
        rows += [
            Row(f"{side}_projection/linear1", f"{side}_projection.0"),
            Row(f"{side}_projection/linear2", f"{side}_projection.2"),
            Row(f"{side}_transform/linear1", f"{side}_transform.sequential.0"),
            Row(f"{side}_transform/linear2", f"{side}_transform.sequential.3"),
        ]
    return rows


def audio_rows(config: ClapConfig, prefix: str) -> list[Row]:
    """An audio encoder of LAION-CLAP, which has it of PANNs or HTS-AT, as have BLAT and others."""
    htsat, (_, place) = config.audio_encoder == "htsat", split_type(config.fusion.type)
    rows = _htsat(config, prefix, "bn0", LAION_BLOCK) if htsat else _pann(config, prefix)
    if place == "1d":
        return rows + _mel_fusion(f"{prefix}mel_conv1d", f"{prefix}fusion_model")
    if htsat:
        inside = f"{prefix}patch_embed"
        return rows + _image_fusion(f"{inside}.mel_conv2d", f"{inside}.fusion_model")
    norm = Row("audio_encoder/fusion/mel_conv2d_norm", f"{prefix}mel_conv2d.1")
    return [*rows, *_image_fusion(f"{prefix}mel_conv2d.0", f"{prefix}fusion_model"), norm]


def blat_rows(config: ClapConfig) -> list[Row]:
    """BLAT's `AudioTextClip`, whose one scale is both of ours."""
    return [
        *audio_rows(config, "audio_encoder."),
        *_bert(config, "text_encoder.model"),
        Row("audio_projection/linear1", "audio_proj"),
        Row("text_projection/linear1", "text_proj"),
        Row("logit_scale_a", "logit_scale"),
        Row("logit_scale_t", "logit_scale"),
    ]


def _same(*names: str) -> list[Row]:
    return [Row(name, name.replace("/", ".")) for name in names]


def _htsat(config: ClapConfig, prefix: str, batch_norm: str, block: dict[str, str]) -> list[Row]:
    """The Swin encoder: blocks in pairs here (plain, shifted), one by one there."""
    ours = "audio_encoder"
    rows = [
        Row(f"{ours}/batch_norm", f"{prefix}{batch_norm}"),
        Row(f"{ours}/patch_embed", f"{prefix}patch_embed.proj"),
        Row(f"{ours}/patch_norm", f"{prefix}patch_embed.norm"),
        Row(f"{ours}/norm", f"{prefix}norm"),
    ]
    for stage, depth in enumerate(config.htsat.depths):
        there = f"{prefix}layers.{stage}"
        for index in (0, 1):
            for name, theirs in block.items():
                rows.append(
                    Row(
                        f"{ours}/stage{stage}/block{index}/{name}",
                        f"{there}.blocks.{{layer}}.{theirs}",
                        layers=range(index, depth, 2),
                        parts=_parts(theirs),
                    )
                )
        for name in ("norm", "reduction"):
            rows.append(Row(f"{ours}/merge{stage}/{name}", f"{there}.downsample.{name}"))
    return rows


def _bert(config: ClapConfig, prefix: str) -> list[Row]:
    """BERT or RoBERTa."""
    ours = "text_encoder"
    rows = [
        Row(f"{ours}/{name}", f"{prefix}.embeddings.{name}_embeddings")
        for name in ("word", "position", "token_type")
    ]
    rows += [
        Row(f"{ours}/embedding_norm", f"{prefix}.embeddings.LayerNorm"),
        Row(f"{ours}/pooler", f"{prefix}.pooler.dense"),
    ]
    for name, theirs in BERT_LAYER.items():
        rows.append(
            Row(
                f"{ours}/layers/{name}",
                f"{prefix}.encoder.layer.{{layer}}.{theirs}",
                layers=range(config.text.layers),
                parts=_parts(theirs),
            )
        )
    return rows


def _clip(config: ClapConfig, prefix: str) -> list[Row]:
    """CLIP's text transformer; what is not a layer stands outside `prefix`."""
    ours = "text_encoder"
    rows = [
        Row(f"{ours}/word", "token_embedding"),
        Row(f"{ours}/position/embedding", "positional_embedding"),
        Row(f"{ours}/final_norm", "ln_final"),
    ]
    for name, theirs in CLIP_LAYER.items():
        there = f"{prefix}.resblocks.{{layer}}.{theirs}"
        rows.append(Row(f"{ours}/layers/{name}", there, layers=range(config.text.layers)))
    return rows


def _pann(config: ClapConfig, prefix: str) -> list[Row]:
    """Cnn6, Cnn10 or Cnn14."""
    ours = "audio_encoder"
    rows = [
        Row(f"{ours}/batch_norm", f"{prefix}bn0"),
        Row(f"{ours}/fc", f"{prefix}fc1"),
    ]
    for block in range(1, PANN_BLOCKS[config.audio_encoder] + 1):
        for index in (1, 2):
            there = f"{prefix}conv_block{block}"
            rows.append(Row(f"{ours}/block{block}/conv{index}", f"{there}.conv{index}"))
            rows.append(Row(f"{ours}/block{block}/norm{index}", f"{there}.bn{index}"))
    return rows


def _image_fusion(conv: str, model: str) -> list[Row]:
    """2d fusion; its 1 x 1 convolutions are dense layers here."""
    return [Row("audio_encoder/fusion/mel_conv2d", conv), *_attention(model, spatial=2)]


def _mel_fusion(conv: str, model: str) -> list[Row]:
    """1d fusion."""
    ours = "audio_encoder/fusion"
    return [
        Row(f"{ours}/mel_conv1d", f"{conv}.0"),
        Row(f"{ours}/mel_conv1d_norm", f"{conv}.1"),
        *_attention(model, spatial=1),
    ]


def _attention(model: str, spatial: int) -> list[Row]:
    rows = []
    for branch, modules in (
        ("local_att", LOCAL_ATTENTION),
        ("local_att2", LOCAL_ATTENTION),
        ("global_att", GLOBAL_ATTENTION),
    ):
        for name, index in modules.items():
            ours = f"audio_encoder/fusion/fusion_model/{branch}/{name}"
            rows.append(Row(ours, f"{model}.{branch}.{index}", spatial=spatial))
    return rows


def _parts(theirs: str) -> tuple[str, ...]:
    return QKV if "{part}" in theirs else ("",)
