"""Which kernel computes a model's attention on a platform. No jax here: the ledger asks too."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, NamedTuple

from encdec_jax.errors import require
from encdec_jax.model.config import ModelConfig
from encdec_jax.model.declare import edges
from encdec_jax.model.parts.positions import POSITIONS

Kernel = Literal["plain", "splash", "cudnn"]
WANTED: dict[str, Kernel] = {"tpu": "splash", "gpu": "cudnn", "cuda": "cudnn"}


class KernelChoice(NamedTuple):
    """What 'auto' stands for: the kernel, and why it is not the platform's fused one, or None if it is."""

    kernel: Kernel
    reason: str | None


def choose(config: ModelConfig, platform: str) -> KernelChoice:
    """The fastest kernel that the platform ('cpu', 'gpu' or 'tpu') has and the model allows."""
    wanted: Kernel = WANTED.get(platform, "plain")
    reason = _missing(wanted, config, platform)
    return KernelChoice("plain" if reason else wanted, reason)


def resolve(config: ModelConfig, platform: str | None = None) -> ModelConfig:
    """The model with the kernel that its attention gets on a platform in place of 'auto'.

    Args:
      config: the model. Its `attention` is 'auto', or the name of a kernel.
      platform: 'cpu', 'gpu' or 'tpu'; None for that of jax's default device.

    Raises:
      UserError: a kernel is named that the platform lacks, or that cannot do what the model asks.
    """
    if platform is None:
        import jax

        platform = jax.default_backend()
    if config.attention == "auto":
        return replace(config, attention=choose(config, platform).kernel)
    reason = _missing(config.attention, config, platform)
    require(reason is None, "model.attention", config.attention, f"'plain' or 'auto', because {reason}")
    return config


def _missing(kernel: Kernel, config: ModelConfig, platform: str) -> str | None:
    """Why a kernel can't be had, or None."""
    if kernel == "plain":
        return None
    if kernel != WANTED.get(platform):
        return f"the device is a {platform}"
    looks = edges(config)
    if kernel == "splash" and any(edge.reads.fused is None for edge in looks):
        return "splash attention has no sliding windows, blocks or mixing over positions here"
    if kernel == "splash" and any(POSITIONS[edge.reads.position].biased for edge in looks):
        return "splash attention takes no bias of positions"
    if config.score_cap:
        return "only plain attention caps scores (model.score_cap)"
    if config.attention_dropout:
        return "only plain attention drops of its softmax (model.attention_dropout)"
    if config.sinks:
        return "only plain attention has sinks (model.sinks)"
    heads = [stack.head_dim for stack in (config.decoder, config.encoder) if stack]
    if kernel == "cudnn" and config.dtype != "bfloat16":
        return f"cuDNN's attention takes model.dtype = 'bfloat16' and this model has {config.dtype!r}"
    if kernel == "cudnn" and any(dim > 128 or dim % 8 for dim in heads):
        return f"cuDNN's attention takes a head_dim of at most 128, a multiple of 8, and this model has {max(heads)}"
    return None
