"""Model FLOPs from the config, and what a device could do: together they give MFU.

Counted by formula: XLA's own analysis counts the body of a scan once, whatever the number of layers. A multiplication
and an addition are two. Padding is not useful work and is not counted.
"""

import dataclasses

import jax

from nlm_jax.core.frames import MEL_BINS, PATCH, n_tokens, n_windows
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.config import NatureLMConfig
from nlm_jax.models.llama.config import LlamaConfig
from nlm_jax.train.partition import Components

PEAKS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "A100": 312e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
}
"""Dense bfloat16 FLOP/s of one device, by a part of its name; the first that fits counts. From the vendors' sheets."""


@dataclasses.dataclass(frozen=True)
class Flops:
    """Forward FLOPs by part: per clip, per sequence token, per answer token."""

    beats: float
    bridge: float
    token: float
    adapter: float
    answer: float

    def training(self, trains: Components, clips: float, tokens: float, answers: float) -> float:
        """FLOPs of forward and backward over a batch of this many clips, tokens and answer tokens.

        What trains costs three times its forward pass, a frozen part that gradients pass through twice, one that has
        nothing trainable before it once.
        """
        below = trains.beats
        total = self.beats * clips * (3 if trains.beats else 1)
        total += self.bridge * clips * (3 if trains.qformer or trains.projection else 2 if below else 1)
        below = below or trains.qformer or trains.projection
        base = 3 if trains.base else 2 if below or trains.lora else 1
        adapter = 3 if trains.lora else 2 if below else 1
        return total + tokens * (self.token * base + self.adapter * adapter) + answers * self.answer * base


def forward_flops(cfg: NatureLMConfig, samples: int, context: int) -> Flops:
    """Forward FLOPs of `cfg`, for clips of `samples` samples and examples of `context` tokens."""
    q, patches = cfg.qformer, n_tokens(samples)
    windows = n_windows(samples, q.kernel, q.stride)
    width, source = q.width, cfg.beats.width
    per_query = 2 * width * (6 * width + 2 * q.mlp) + 4 * width * (q.kernel + q.queries)
    per_window = q.queries * per_query + q.kernel * 2 * 2 * source * width
    bridge = windows * (q.layers * per_window + q.queries * 2 * width * cfg.llama.width)
    llama = cfg.llama
    heads, kv = llama.heads * llama.head_dim, llama.kv_heads * llama.head_dim
    rank = llama.lora.rank if llama.lora else 0
    adapter = llama.layers * 2 * rank * (4 * llama.width + 2 * heads + 2 * kv)
    return Flops(
        beats=beats_flops(cfg.beats, patches),
        bridge=bridge,
        token=llama_flops(llama, context),
        adapter=adapter,
        answer=2 * llama.width * llama.vocab,
    )


def beats_flops(cfg: BeatsConfig, patches: int) -> float:
    """Forward FLOPs of the encoder for one clip of `patches` tokens."""
    d = cfg.width
    layer = 2 * d * (4 * d + 2 * cfg.mlp) + 4 * patches * d
    front = 2 * PATCH * MEL_BINS // (MEL_BINS // PATCH) * cfg.patch_dim + 2 * cfg.patch_dim * d
    return patches * (cfg.layers * layer + front + 2 * d * d // cfg.conv_groups * cfg.conv_taps)


def llama_flops(cfg: LlamaConfig, context: int) -> float:
    """Forward FLOPs of the decoder for one token of an example of `context` tokens, without head and adapter."""
    heads, kv = cfg.heads * cfg.head_dim, cfg.kv_heads * cfg.head_dim
    weights = cfg.width * (2 * heads + 2 * kv + 3 * cfg.mlp)
    return cfg.layers * (2 * weights + 4 * heads * context / 2)


def peak_flops(devices=None) -> float | None:
    """bfloat16 FLOP/s of all devices together, None if they are not in the table (CPUs)."""
    devices = jax.devices() if devices is None else list(devices)
    kind = devices[0].device_kind
    flops = next((peak for name, peak in PEAKS.items() if name in kind), None)
    return flops and flops * len(devices)
