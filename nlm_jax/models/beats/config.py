"""Sizes of the BEATs encoder."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class BeatsConfig:
    """Defaults are `BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2`, the encoder of NatureLM-audio."""

    patch_dim: int = 512
    width: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    buckets: int = 320
    max_distance: int = 800
    conv_taps: int = 128
    conv_groups: int = 16
    grad_decay: float = 0.6
    """Gradient of layer i of L is scaled by grad_decay^(L-1-i), of everything before the layers by grad_decay^L."""
    layerdrop: float = 0.05
    predictor_classes: int | None = 527
    """Rows of the AudioSet head, unused by NatureLM but part of its checkpoints; None = no head."""

    @property
    def head(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def residual_scale(self) -> float:
        """deep_norm's alpha."""
        return (2.0 * self.layers) ** 0.25

    @property
    def init_gain(self) -> float:
        """deep_norm's beta, the gain of the initial weights of the residual branches."""
        return (8.0 * self.layers) ** -0.25
