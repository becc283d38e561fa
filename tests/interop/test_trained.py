"""Weights that somebody trained, not drawn: annalog's encoder-decoder writes the molecules that it reads (MIT)."""

from __future__ import annotations

import pickle
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from support import logits
from test_golden_logits import held_by

from encdec_jax.interop.family import HFFamily, linear, norm
from encdec_jax.interop.stored import from_tensors
from encdec_jax.model.config import ModelConfig, StackConfig
from encdec_jax.model.streams import stream

torch = pytest.importorskip("torch")
SPEC = find_spec("annalog")  # annalog==1.0.6; its checkpoint alone is read, none of its code is run
pytestmark = [pytest.mark.slow, pytest.mark.skipif(SPEC is None, reason="annalog is not installed")]

SIZE = StackConfig(3, 256, 8, 8, 32, 512)
CONFIG = ModelConfig(
    "enc_dec",
    59,
    SIZE,
    SIZE,
    mlp="relu",
    norm="post",
    norm_kind="layer",
    norm_epsilon=1e-5,
    tie="none",
    position="learned_unscaled",
    position_rows=102,
    attention_bias="all",
    mlp_bias=True,
    logit_bias=True,
    target_positions="restart",
)
MOLECULES = [  # as they are written canonically, which it was trained on
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "CC(C)Cc1ccc(C(C)C(=O)O)cc1",
    "OCC1OC(O)C(O)C(O)C1O",
]


def names(_: ModelConfig) -> dict:
    found = {"decoder.fc_out.weight": ("head", "table"), "decoder.fc_out.bias": ("head", "logit_bias")}
    for side, table in (("encoder", "source_embed"), ("decoder", "embed")):
        layer = f"{side}.layers.{{i}}"
        found[f"{side}.tok_embedding.weight"] = (table, "table")
        found[f"{side}.pos_embedding.weight"] = (side, "positions", "learned_unscaled", "table")
        for theirs, normed, ours in (
            ("self_attention", "self_attn", "attn"),
            ("encoder_attention", "enc_attn", "cross"),
        ):
            for one in "qkvo":
                found |= linear(f"{layer}.{theirs}.fc_{one}", side, ours, one)
            found |= norm(f"{layer}.{normed}_layer_norm", side, f"{ours}_norm")
        found |= linear(f"{layer}.positionwise_feedforward.fc_1", side, "mlp", "up")
        found |= linear(f"{layer}.positionwise_feedforward.fc_2", side, "mlp", "down")
        found |= norm(f"{layer}.ff_layer_norm", side, "mlp_norm")
    return found


class Plain(pickle.Unpickler):
    """Lists, dicts, strings and numbers; whatever names a class or a function is refused."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError(f"{module}.{name}")


def test_it_writes_what_it_reads() -> None:
    folder = Path(SPEC.submodule_search_locations[0]) / "ckpt_and_vocab"
    stored = torch.load(folder / "Lev_extended.pt", weights_only=True, map_location="cpu")
    family = HFFamily(lambda *_: CONFIG, lambda _: {}, names, {})
    values = from_tensors(family, CONFIG, {name: tensor.numpy() for name, tensor in stored.items()}, "annalog")
    assert sum(value.size for value in values.values()) == 4_051_259
    params = held_by(CONFIG, values)
    ids = Plain((folder / "stereo_experiment_vocab_ttf.pkl").open("rb")).load()["stoi"]
    for molecule in MOLECULES:
        written = [ids[token] for token in ("<sos>", *re.findall(r"\[[^]]*\]|%\d\d|Br|Cl|.", molecule), "<eos>")]
        source = stream(np.array([written]), 0, True)
        target = stream(np.array([written[:-1]]), len(written))
        # All of it at once: greedy decoding would read the same, token by token, as long as it writes the same.
        found = np.asarray(logits(CONFIG, params, source, target, len(written) - 1))[0].argmax(axis=-1)
        assert found.tolist() == written[1:], molecule
