"""The PyTorch peer of `train_step.py` and `generate.py`: published components combined as usual in that ecosystem.

Hugging Face Llama with PEFT's LoRA, BLIP-2's Q-Former from transformers, and a plain encoder of BEATs' shape with SDPA.
Filter banks clip by clip with Kaldi's code, batches padded to their longest example, logits at all positions.
"""

import kaldi_native_fbank
import numpy as np
import peft
import torch
import transformers
from torch import nn
from torch.nn import functional

from nlm_jax.audio.fbank import MEAN, STD
from nlm_jax.core.frames import MEL_BINS, PATCH
from nlm_jax.models.beats.config import BeatsConfig
from nlm_jax.models.beats.position import relative_buckets
from nlm_jax.models.config import NatureLMConfig

IGNORED = -100
BINS = 126
"""Mel bins of the peer's filter bank, the maximum that Kaldi accepts: the lowest of 128 would be empty."""


def kaldi(wave: np.ndarray) -> np.ndarray:
    """Filter bank of one clip, f32[frames, 128]; the last 2 bins are zero."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0.0
    options.frame_opts.window_type = "povey"
    options.mel_opts.num_bins = BINS
    options.mel_opts.debug_mel = False
    maker = kaldi_native_fbank.OnlineFbank(options)
    maker.accept_waveform(16_000, (wave * 2.0**15).tolist())
    maker.input_finished()
    frames = np.stack([maker.get_frame(i) for i in range(maker.num_frames_ready)])
    return np.pad(((frames - MEAN) / (2 * STD)).astype(np.float32), ((0, 0), (0, MEL_BINS - BINS)))


class Layer(nn.Module):
    """Post-norm transformer layer with a gated relative bias."""

    def __init__(self, cfg: BeatsConfig):
        super().__init__()
        self.heads = cfg.heads
        self.qkv, self.out = nn.Linear(cfg.width, 3 * cfg.width), nn.Linear(cfg.width, cfg.width)
        self.gate, self.gate_scale = nn.Linear(cfg.head, 8), nn.Parameter(torch.ones(1, cfg.heads, 1, 1))
        self.fc1, self.fc2 = nn.Linear(cfg.width, cfg.mlp), nn.Linear(cfg.mlp, cfg.width)
        self.norm1, self.norm2 = nn.LayerNorm(cfg.width), nn.LayerNorm(cfg.width)
        self.alpha = cfg.residual_scale

    def forward(self, x, bias):
        b, p, d = x.shape
        q, k, v = self.qkv(x).view(b, p, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        a, c = torch.sigmoid(self.gate(q).view(b, self.heads, p, 2, 4).sum(-1)).chunk(2, -1)
        gated = (a * (c * self.gate_scale - 1.0) + 2.0) * bias
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=gated.to(q.dtype))
        x = self.norm1(self.alpha * x + self.out(y.transpose(1, 2).reshape(b, p, d)))
        return self.norm2(self.alpha * x + self.fc2(functional.gelu(self.fc1(x))))


class Encoder(nn.Module):
    """BEATs' shape: patches, positional convolution, layers with one bias table."""

    def __init__(self, cfg: BeatsConfig):
        super().__init__()
        self.patches = nn.Conv2d(1, cfg.patch_dim, PATCH, PATCH, bias=False)
        self.patch_norm, self.project = nn.LayerNorm(cfg.patch_dim), nn.Linear(cfg.patch_dim, cfg.width)
        conv = nn.Conv1d(cfg.width, cfg.width, cfg.conv_taps, padding=cfg.conv_taps // 2, groups=cfg.conv_groups)
        self.conv = nn.utils.parametrizations.weight_norm(conv, dim=2)
        self.norm, self.table = nn.LayerNorm(cfg.width), nn.Embedding(cfg.buckets, cfg.heads)
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg.layers))
        self.cfg = cfg

    def forward(self, mel):
        x = self.patches(mel[:, None]).flatten(2).transpose(1, 2)
        x = self.project(self.patch_norm(x))
        x = self.norm(x + functional.gelu(self.conv(x.transpose(1, 2))[..., : x.shape[1]]).transpose(1, 2))
        index = relative_buckets(x.shape[1], self.cfg.buckets, self.cfg.max_distance)
        bias = self.table(torch.as_tensor(index, device=x.device)).permute(2, 0, 1)
        for layer in self.layers:
            x = layer(x, bias)
        return x


class AudioTower(nn.Module):
    """Encoder, windowed Q-Former and projection: filter banks to vectors for the language model."""

    def __init__(self, cfg: NatureLMConfig):
        super().__init__()
        q = cfg.qformer
        self.encoder, self.ln = Encoder(cfg.beats), nn.LayerNorm(cfg.beats.width)
        bridge = transformers.Blip2QFormerConfig(
            hidden_size=q.width,
            num_hidden_layers=q.layers,
            num_attention_heads=q.heads,
            intermediate_size=q.mlp,
            cross_attention_frequency=1,
            encoder_hidden_size=cfg.beats.width,
        )
        self.bridge = transformers.Blip2QFormerModel(bridge)
        self.queries = nn.Parameter(torch.zeros(1, q.queries, q.width).normal_(0, 0.02))
        self.project = nn.Linear(q.width, cfg.llama.width)
        self.kernel = q.kernel

    def forward(self, mel):
        """[B, W * Q, D] of [B, frames, mels]."""
        tokens = self.ln(self.encoder(mel))
        b, p, d = tokens.shape
        tokens = functional.pad(tokens, (0, 0, 0, -p % self.kernel))
        windows = tokens.reshape(-1, self.kernel, d)
        queries = self.queries.expand(len(windows), -1, -1)
        vectors = self.bridge(query_embeds=queries, encoder_hidden_states=windows).last_hidden_state
        return self.project(vectors).reshape(b, -1, self.project.out_features)


class Peer(nn.Module):
    """`AudioTower` and a language model with adapter."""

    def __init__(self, cfg: NatureLMConfig, dtype: torch.dtype):
        super().__init__()
        self.audio_tower, llama = AudioTower(cfg), cfg.llama
        base = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=llama.vocab,
                hidden_size=llama.width,
                num_hidden_layers=llama.layers,
                num_attention_heads=llama.heads,
                num_key_value_heads=llama.kv_heads,
                head_dim=llama.head_dim,
                intermediate_size=llama.mlp,
                attn_implementation="sdpa",
            )
        ).to(dtype)
        lora = peft.LoraConfig(
            r=llama.lora.rank,
            lora_alpha=llama.lora.alpha,
            lora_dropout=llama.lora.dropout,
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        )
        self.llama = peft.get_peft_model(base, lora)

    def forward(self, mel, ids, clip_at, labels, mask):
        """`clip_at`: index of the first position of each example's clip vectors."""
        vectors = self.audio_tower(mel)
        embeds = self.llama.get_input_embeddings()(ids)
        rows = []
        for i, at in enumerate(clip_at):  # the reference splices prompt by prompt too
            rows.append(torch.cat([embeds[i, :at], vectors[i].to(embeds.dtype), embeds[i, at + vectors.shape[1] :]]))
        return self.llama(inputs_embeds=torch.stack(rows), attention_mask=mask, labels=labels).loss
