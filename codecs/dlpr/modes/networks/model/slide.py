"""The networks of the slide profile together."""

from __future__ import annotations

from torch import nn

from dlpr.config import SlideProfile
from dlpr.modes.networks.model.lic import LossyCodec
from dlpr.modes.networks.model.residual import CAUSAL_FEATURES, ResidualCompressor


class SlideModel(nn.Module):
    """All networks of the slide profile."""

    def __init__(self, cfg: SlideProfile, causal: int = CAUSAL_FEATURES) -> None:
        super().__init__()
        self.lic = LossyCodec(cfg)
        self.rc = ResidualCompressor(cfg, 0, causal)
        self.sqrc = ResidualCompressor(cfg, cfg.tau_classes, causal)
