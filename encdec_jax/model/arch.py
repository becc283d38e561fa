"""Architectures as orthogonal choices, and the named table of those under study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Arch:
    """What distinguishes one architecture from another.

    Attributes:
      own_stream: the source is a stream of its own, not the first part of the target's.
      source_open: every source token sees all of its source (else only what precedes it).
      shared: what encoder and decoder have in common: the embeddings, or all blocks too.
      reads: which source states the decoder attends to: the encoder's final ones, those of the same layer, or both,
        added: a residual connection from each encoder layer to its decoder layer.
      joins: how it attends to them: a cross-attention sublayer of its own, or keys merged into self-attention.
      context: the one stream goes through an encoder too, whose final states of earlier blocks the decoder reads beside
        its own states of the same block.
    """

    own_stream: bool
    source_open: bool
    shared: Literal["embeddings", "blocks"] | None = None
    reads: Literal["final", "layers", "both"] | None = None
    joins: Literal["sublayer", "merged"] | None = None
    context: bool = False

    @property
    def own_encoder(self) -> bool:
        """Whether there is an encoder with blocks of its own."""
        return self.context or (self.own_stream and self.shared != "blocks")

    @property
    def causal(self) -> bool:
        """Whether one stream predicts each of its tokens from those before it."""
        return not self.own_stream and not self.source_open

    @property
    def by_layer(self) -> bool:
        """Whether each decoder layer reads states of its own."""
        return self.reads in ("layers", "both")


ARCHS: dict[str, Arch] = {
    "enc_dec": Arch(True, True, "embeddings", "final", "sublayer"),
    "enc_dec_causal": Arch(True, False, "embeddings", "final", "sublayer"),
    "enc_dec_shared": Arch(True, True, "blocks", "final", "merged"),
    "enc_dec_merged": Arch(True, True, "embeddings", "final", "merged"),
    "layerwise": Arch(True, True, "embeddings", "layers", "sublayer"),
    "coordinated": Arch(True, True, "blocks", "layers", "merged"),
    "prefix_lm": Arch(False, True),
    "causal_lm": Arch(False, False),
    "layerwise_causal": Arch(True, False, "embeddings", "layers", "sublayer"),
    "causal_lm_top": Arch(True, False, "blocks", "final", "merged"),
    "enc_dec_residual": Arch(True, True, "embeddings", "both", "sublayer"),
    "double_decoder": Arch(False, False, "embeddings", "final", "merged", context=True),
}
SOURCES: dict[str, str] = {
    "enc_dec": "Vaswani et al. 2017; T5 (arXiv 1910.10683, section 2.1)",
    "enc_dec_causal": "T5Gemma's causal-encoder ablation (arXiv 2504.06225)",
    "enc_dec_shared": "T5's shared encoder-decoder (section 3.2.2), with T5Gemma 2's merged attention; Zhang et al. "
    "2022, PrefixLM TopOnly",
    "enc_dec_merged": "T5Gemma 2 (arXiv 2512.14856): merged attention to the final states of an encoder of its own",
    "layerwise": "Zhang et al. 2022 (arXiv 2202.00528), LayerWise",
    "coordinated": "He et al. 2018, layer-wise coordination: shared blocks, same-layer states",
    "prefix_lm": "Dong et al. 2019 (UniLM); T5, section 3.2.1; Zhang et al. 2022, PrefixLM",
    "causal_lm": "T5, section 3.2.1; Zhang et al. 2022, CausalLM",
    "layerwise_causal": "Zhang et al. 2022, LayerWise, with a source that can predict itself (`objective.source_loss`)",
    "causal_lm_top": "Zhang et al. 2022, CausalLM TopOnly: one stack, whose target reads the source's final states",
    "enc_dec_residual": "Return of the Encoder (arXiv 2501.16273): residual connections from encoder layers to the "
    "decoder's, in a form of ours, because the paper's was not to be had",
    "double_decoder": "Block-based double decoders (arXiv 2605.18807), its blocks of one `model.block_length`: "
    "the paper draws where they end",
}
