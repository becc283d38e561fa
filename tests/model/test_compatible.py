"""Parts of a model that do not go together are refused before anything is computed, in one line."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sublayers  # noqa: F401  (registers a position)
from support import SMALL, model_config

from encdec_jax.errors import UserError
from encdec_jax.model.compatible import READERS
from encdec_jax.model.config import ExpertConfig
from encdec_jax.model.declare import edges

ODD = replace(SMALL, head_dim=5)
REFUSED = [
    ({"block": "nonsense"}, "model.block = 'nonsense' is not accepted: one of standard"),
    ({"position": "nonsense"}, "model.position = 'nonsense' is not accepted: one of rope, "),
    ({"cross_position": "nonsense"}, "model.cross_position = 'nonsense' is not accepted: one of rope"),
    ({"decoder": ODD}, "model.decoder.head_dim = 5 is not accepted: an even number"),
    ({"encoder": ODD}, "model.encoder.head_dim = 5 is not accepted: an even number"),
    ({"decoder": ODD, "encoder": ODD, "position": "none", "cross_position": "rope"}, "model.decoder.head_dim = 5"),
    ({"decoder": replace(SMALL, window=3), "attention": "splash"}, "model.attention = 'splash'.*windows"),
    ({"position": "tests' own", "attention": "splash"}, "model.attention = 'splash'.*bias"),
    ({"decoder": replace(SMALL, cross_every=3)}, "model.decoder.cross_every = 3 is not accepted: at most 2"),
    ({"decoder": replace(SMALL, cross_every=3), "block": "lightweight"}, "model.decoder.cross_every = 3 .*: at most 2"),
    ({"mlp_bias": True, "experts": ExpertConfig(2)}, "model.mlp_bias = True is not accepted: false: experts have no"),
    ({"first_norm": False, "norm": "post"}, "model.first_norm = False is not accepted: true"),
    ({"block": "dynamic", "decoder": replace(SMALL, window=3)}, "model.decoder.window = 3 is not accepted: 0, because"),
    ({"block": "lightweight", "position": "t5"}, "model.position = 't5' .*one without biases.*of the decoder"),
    ({"block": "mixer", "position": "alibi"}, "model.position = 'alibi' .*one without biases"),
    ({"block": "yoco"}, "model.block = 'yoco' is not accepted: 'standard', because two streams"),
    ({"decoder": replace(SMALL, n_layers=4, distinct=2, window=3, global_every=4)}, "model.decoder.distinct = 2"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_parts_that_do_not_go_together_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        edges(model_config("enc_dec", **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("block", ["lightweight", "mixer"])
def test_what_only_attention_reads_is_refused_where_there_is_none(block: str) -> None:
    """As each is of a run's id, two runs would differ in nothing."""
    changed = {"attention_bias": "all", "score_cap": 2.0, "score_scale": 1.0, "attention_dropout": 0.1}
    for name in [name for name, reader in READERS.items() if reader == READERS["qk_norm"]]:
        value = changed.get(name, True)
        with pytest.raises(UserError, match=rf"model\.{name} = {value!r} is not accepted: .*a layer with attention"):
            edges(model_config("causal_lm", block=block, **{name: value}))
        assert edges(model_config("enc_dec", block=block, **{name: value}))  # cross-attention reads it


def test_merged_keys_may_lack_positions_only_if_they_are_made_for_the_target_alone() -> None:
    assert edges(model_config("enc_dec_merged", cross_position="none"))
    with pytest.raises(UserError, match=r"model\.cross_position = 'none' is not accepted: 'same', because coordinated"):
        model_config("coordinated", cross_position="none")


def test_depths_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"model\.encoder\.n_layers = 3 is not accepted: a multiple of model\.decoder\."
    ):
        model_config("enc_dec_residual", encoder=replace(SMALL, n_layers=3))
    for arch in ("causal_lm", "enc_dec"):
        with pytest.raises(UserError, match=r"model\.block = 'palm' is not accepted: 'standard', because the source"):
            edges(model_config(arch, block="palm"))
    with pytest.raises(
        UserError, match=r"model\.position = 'separate' is not accepted: another, because causal_lm does"
    ):
        edges(model_config("causal_lm", position="separate"))
    for field, value in (("window", 3), ("cross_every", 2)):
        with pytest.raises(
            UserError, match=rf"model\.decoder\.{field} = {value} is not accepted: ., because|: 1: each"
        ):
            model_config("double_decoder", decoder=replace(SMALL, **{field: value}))
    with pytest.raises(UserError, match=r"model\.attention = 'splash' is not accepted: .* no sliding windows, blocks"):
        edges(model_config("double_decoder", attention="splash"))
    with pytest.raises(UserError, match=r"model\.decoder\.n_layers = 1 is not accepted: at least 2"):
        edges(model_config("causal_lm", decoder=replace(SMALL, n_layers=1), block="yoco"))


def test_merged_keys_have_one_width() -> None:
    with pytest.raises(UserError, match=r"model\.encoder\.d_model = 8 is not accepted: model\.decoder\.d_model = 16"):
        model_config("enc_dec_merged", encoder=replace(SMALL, d_model=8), tie="none")


def test_an_odd_head_is_refused_only_with_rope() -> None:
    assert edges(model_config("enc_dec", decoder=ODD, encoder=ODD, position="none"))
