"""torch.nn.Transformer between a table of ids, sinusoids and a head, saved and loaded as the other library's models."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import safetensors.torch
import torch
from hf_cases import ORIGINAL, VOCAB


class Original(torch.nn.Transformer):
    """The module itself, and what stands around it: the names are its own, and embed.weight."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments, batch_first=True)
        self.embed = torch.nn.Embedding(VOCAB, self.d_model)
        fields = {"architectures": ["Transformer"], "model_type": "transformer", "vocab_size": VOCAB, **arguments}
        self.config = SimpleNamespace(is_encoder_decoder=True, to_dict=lambda: dict(fields))

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, decoder_input_ids: torch.Tensor
    ) -> SimpleNamespace:
        padding = attention_mask == 0
        causal = self.generate_square_subsequent_mask(decoder_input_ids.shape[1])
        states = super().forward(
            self.placed(input_ids),
            self.placed(decoder_input_ids),
            tgt_mask=causal,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return SimpleNamespace(logits=states @ self.embed.weight.T)

    def placed(self, ids: torch.Tensor) -> torch.Tensor:
        """Embeddings, scaled, and a sine and a cosine of each angle (Vaswani et al. 2017, section 3.5)."""
        angle = torch.arange(ids.shape[1])[:, None] / 10_000 ** (torch.arange(0, self.d_model, 2) / self.d_model)
        waves = torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)
        return self.embed(ids) * self.d_model**0.5 + waves

    def save_pretrained(self, folder: Path, max_shard_size: str) -> None:
        del max_shard_size
        folder.mkdir()
        safetensors.torch.save_file(self.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(self.config.to_dict()))

    @classmethod
    def from_pretrained(cls, folder: Path, **_: object) -> tuple[Original, dict]:
        model = cls(**{name: json.loads((folder / "config.json").read_text())[name] for name in ORIGINAL})
        lost = model.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"), strict=False)
        return model, {"missing_keys": lost.missing_keys, "unexpected_keys": lost.unexpected_keys}
