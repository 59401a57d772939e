"""PANNs and feature fusion in torch, from the published formulas; their weights as Flax trees."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

NORMS = nn.BatchNorm1d | nn.BatchNorm2d


def attention(channels: int, dimensions: int) -> nn.Sequential:
    """Two 1 x 1 convolutions, to a quarter of the channels and back."""
    conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dimensions == 1 else (nn.Conv2d, nn.BatchNorm2d)
    inner = channels // 4
    return nn.Sequential(
        conv(channels, inner, 1), norm(inner), nn.ReLU(), conv(inner, channels, 1), norm(channels)
    )


class Fusion(nn.Module):
    """Dai et al., 2021, as LAION-CLAP has it; called with (whole, chunks), (B, C, ...) each."""

    def __init__(self, kind: str, channels: int, dimensions: int):
        super().__init__()
        self.kind = kind
        names = {"daf": (), "aff": ("local_att", "global_att")}
        for name in names.get(kind, ("local_att", "global_att", "local_att2")):
            setattr(self, name, attention(channels, dimensions))

    def forward(self, x, y):
        if self.kind == "daf":
            return x + y
        space = tuple(range(2, x.ndim))
        both = x + y
        m = torch.sigmoid(self.local_att(both) + self.global_att(both.mean(space, keepdim=True)))
        if self.kind == "aff":
            return 2 * (m * x + (1 - m) * y)
        z = m * x + (1 - m) * y
        m = torch.sigmoid(self.local_att2(z) + self.global_att(z.mean(space, keepdim=True)))
        return m * x + (1 - m) * y


class MelFusion(nn.Module):
    """1d: (B, 4, F, M) to (B, F, M), all rows fused."""

    def __init__(self, kind: str, bins: int):
        super().__init__()
        self.mel_conv1d = nn.Conv1d(bins, bins, 5, stride=3, padding=2)
        self.mel_conv1d_norm = nn.BatchNorm1d(bins)
        self.fusion_model = Fusion(kind, bins, 1)

    def forward(self, mels):
        frames = mels.shape[2]
        parts = [self.mel_conv1d_norm(self.mel_conv1d(mels[:, i].mT)) for i in (1, 2, 3)]
        local = torch.cat(parts, dim=2)[:, :, :frames]
        local = F.pad(local, (0, frames - local.shape[2]))
        return self.fusion_model(mels[:, 0].mT, local).mT


class ImageFusion(nn.Module):
    """2d behind the first block of a PANN: (B, C, H, W) and (B, 3, F, M) to (B, C, H, W)."""

    def __init__(self, kind: str, channels: int):
        super().__init__()
        self.mel_conv2d = nn.Conv2d(1, channels, 5, stride=(6, 2), padding=2)
        self.mel_conv2d_norm = nn.BatchNorm2d(channels)
        self.fusion_model = Fusion(kind, channels, 2)

    def forward(self, x, chunks):
        parts = [
            F.relu(self.mel_conv2d_norm(self.mel_conv2d(c[:, None]))) for c in chunks.unbind(1)
        ]
        local = torch.cat(parts, dim=2)[:, :, : x.shape[2]]
        return self.fusion_model(x, F.pad(local, (0, 0, 0, x.shape[2] - local.shape[2])))


class Block(nn.Module):
    """PANNs' ConvBlock (3 x 3, twice) or ConvBlock5x5 (once)."""

    def __init__(self, inputs: int, outputs: int, kernel: int, pool: int):
        super().__init__()
        self.pool, self.convolutions = pool, 1 if kernel == 5 else 2
        for index in range(self.convolutions):
            conv = nn.Conv2d(
                outputs if index else inputs, outputs, kernel, padding=kernel // 2, bias=False
            )
            setattr(self, f"conv{index + 1}", conv)
            setattr(self, f"norm{index + 1}", nn.BatchNorm2d(outputs))

    def forward(self, x):
        for index in range(1, self.convolutions + 1):
            x = F.relu(getattr(self, f"norm{index}")(getattr(self, f"conv{index}")(x)))
        return F.avg_pool2d(x, self.pool)


class Pann(nn.Module):
    """Kong et al., 2020, as LAION-CLAP has it; Cnn6 and Cnn10 with the fusion of its Cnn14."""

    def __init__(self, arch: str, width: int, bins: int, fusion: str = "none"):
        super().__init__()
        self.fusion_type, (kind, _, place) = fusion, fusion.partition("_")
        pools = {"cnn6": [2] * 4, "cnn10": [2] * 5, "cnn14": [2] * 5 + [1]}[arch]
        self.batch_norm = nn.BatchNorm2d(bins)
        if place == "1d":
            self.fusion = MelFusion(kind, bins)
        elif place == "2d":
            self.fusion = ImageFusion(kind, width)
        inputs, outputs = (4 if fusion == "channel_map" else 1), width
        self.count = len(pools)
        for index, pool in enumerate(pools):
            block = Block(inputs, outputs, 5 if arch == "cnn6" else 3, pool)
            setattr(self, f"block{index + 1}", block)
            inputs, outputs = outputs, 2 * outputs
        self.fc = nn.Linear(inputs, inputs)

    def forward(self, mel, longer=None):
        """(B, F, M) or (B, 4, F, M) to ((B, C) pooled, (B, T, C) fine-grained)."""
        x = mel[:, None] if mel.ndim == 3 else mel
        x = self.batch_norm(x.transpose(1, 3)).transpose(1, 3)
        mels = x
        if self.fusion_type.endswith("1d"):
            x = x[:, :1].clone()
            x[longer, 0] = self.fusion(mels[longer])
        elif self.fusion_type.endswith("2d"):
            x = x[:, :1]
        for index in range(1, self.count + 1):
            x = getattr(self, f"block{index}")(x)
            if index == 1 and self.fusion_type.endswith("2d"):
                x = x.clone()
                x[longer] = self.fusion(x[longer], mels[longer, 1:])
        x = x.mean(dim=3)
        near = F.max_pool1d(x, 3, 1, 1) + F.avg_pool1d(x, 3, 1, 1)
        pooled = F.relu(self.fc(x.amax(dim=2) + x.mean(dim=2)))
        return pooled, F.relu(self.fc(near.mT))


def flax_variables(module: nn.Module) -> dict:
    """{"params", "batch_stats"} of a module whose parts are named as ours are.

    An attention branch is a Sequential here: its convolutions and norms are numbered from 1.
    """
    params, stats = {}, {}
    for name, part in module.named_modules():
        path = name.split(".") if name else []
        if isinstance(module.get_submodule(".".join(path[:-1])), nn.Sequential) and path:
            path[-1] = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}.get(path[-1])
        if isinstance(part, NORMS):
            _put(params, path, {"scale": part.weight, "bias": part.bias})
            _put(stats, path, {"mean": part.running_mean, "var": part.running_var})
        elif isinstance(part, nn.Conv1d | nn.Conv2d | nn.Linear):
            kernel = part.weight.permute(*range(2, part.weight.ndim), 1, 0)
            if kernel.shape[:-2].numel() == 1:  # 1 x 1 convolutions are dense layers of ours
                kernel = kernel.reshape(kernel.shape[-2:])
            bias = {} if part.bias is None else {"bias": part.bias}
            _put(params, path, {"kernel": kernel, **bias})
    return {"params": params, "batch_stats": stats}


def _put(tree: dict, path: list[str], leaves: dict) -> None:
    for name in path:
        tree = tree.setdefault(name, {})
    tree.update({name: np.array(leaf.detach().numpy()) for name, leaf in leaves.items()})
