"""The towers against `transformers.ClapModel`, and properties of the model."""

import dataclasses

import flax.traverse_util
import jax
import numpy as np
import pytest
import torch
import transformers

from clapjax.audio.config import AudioConfig
from clapjax.models.clap import Clap, init_variables
from clapjax.models.config import ClapConfig, HTSATConfig, TextConfig, small_clap
from tests.models.hf_layout import variables_from_transformers


def _transformers_model(config: ClapConfig) -> transformers.ClapModel:
    """A randomly initialised ClapModel of the same shape, with non-trivial BatchNorm statistics."""
    htsat, text = config.htsat, config.text
    torch.manual_seed(0)
    model = transformers.ClapModel(
        transformers.ClapConfig(
            text_config=dict(
                vocab_size=text.vocab_size,
                hidden_size=text.hidden_size,
                num_hidden_layers=text.layers,
                num_attention_heads=text.heads,
                intermediate_size=text.intermediate_size,
                max_position_embeddings=text.max_positions,
                layer_norm_eps=text.layer_norm_eps,
                projection_dim=config.projection_size,
            ),
            audio_config=dict(
                spec_size=htsat.spec_size,
                patch_size=htsat.patch_size,
                patch_stride=[htsat.patch_stride] * 2,
                num_mel_bins=config.audio.mel_bins,
                patch_embeds_hidden_size=htsat.embed_dim,
                hidden_size=htsat.width,
                depths=list(htsat.depths),
                num_attention_heads=list(htsat.heads),
                window_size=htsat.window_size,
                projection_dim=config.projection_size,
            ),
            projection_dim=config.projection_size,
        )
    ).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim >= 1:  # biases and tables too, so that none can be forgotten unseen
                value.add_(0.05 * torch.randn(value.shape, generator=generator))
        norm = model.audio_model.audio_encoder.batch_norm
        norm.running_mean.copy_(-30 + 10 * torch.rand(norm.running_mean.shape))
        norm.running_var.copy_(100 + 300 * torch.rand(norm.running_var.shape))
    return model


SIZES = {
    # 4 stages and the 1001 -> 1024 stretch of the published sizes, at a fraction of the width
    "four-stages": ClapConfig(
        audio=AudioConfig(),
        htsat=HTSATConfig(embed_dim=16, depths=(2, 2, 4, 2), heads=(1, 2, 4, 8)),
        text=TextConfig(
            vocab_size=99,
            hidden_size=32,
            layers=3,
            heads=4,
            intermediate_size=64,
            max_positions=80,
        ),
        projection_size=24,
    ),
    # two time chunks, one stage no larger than a window, 251 -> 256 frames
    "one-stage": dataclasses.replace(
        small_clap(),
        htsat=HTSATConfig(
            spec_size=128, patch_size=16, patch_stride=16, embed_dim=32, depths=(2,), heads=(4,)
        ),
    ),
}


@pytest.mark.parametrize("size", SIZES)
def test_towers_equal_transformers(size):
    config = SIZES[size]
    theirs = _transformers_model(config)
    variables = variables_from_transformers(theirs)
    ours = Clap(config)
    shapes = jax.eval_shape(lambda: init_variables(config, jax.random.key(0)))
    flat = flax.traverse_util.flatten_dict
    assert {k: v.shape for k, v in flat(shapes).items()} == {
        k: v.shape for k, v in flat(variables).items()
    }

    generator = np.random.default_rng(0)
    mel = generator.normal(-30, 20, (3, config.audio.frames, config.audio.mel_bins))
    mel = mel.astype(np.float32)
    ids = generator.integers(3, config.text.vocab_size, (4, 12))
    mask = np.arange(12)[None] < np.array([12, 7, 3, 1])[:, None]
    ids = np.where(mask, ids, config.text.pad_id)
    with torch.no_grad():
        audio = theirs.get_audio_features(
            input_features=torch.tensor(mel)[:, None], is_longer=torch.zeros(3, 1)
        ).pooler_output.numpy()
        text = theirs.get_text_features(
            input_ids=torch.tensor(ids), attention_mask=torch.tensor(mask.astype(int))
        ).pooler_output.numpy()
    np.testing.assert_allclose(ours.apply(variables, mel, method="audio"), audio, atol=1e-5)
    np.testing.assert_allclose(ours.apply(variables, ids, mask, method="text"), text, atol=1e-5)
