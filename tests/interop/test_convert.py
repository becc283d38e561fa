"""The verb convert on folders made here: bits, types, names, and all that it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hf_cases import GOLDEN, drawn

from encdec_jax.cli.main import main
from encdec_jax.config import read_run
from encdec_jax.data.cache import write_cache
from encdec_jax.data.named_vocab import vocab_name
from encdec_jax.data.pieces import train
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.data.vocab_file import vocab_of
from encdec_jax.errors import UserError
from encdec_jax.interop import tensors
from encdec_jax.interop.convert import family_of, to_hf
from encdec_jax.interop.huggingface import FAMILIES
from encdec_jax.interop.stored import shape_of
from encdec_jax.model import declare
from encdec_jax.model.param import leaves
from encdec_jax.train import pretrained
from encdec_jax.train.restore import vocabulary

CONFIG = {
    "model_type": "t5",
    "vocab_size": 20,
    "d_model": 8,
    "d_kv": 4,
    "d_ff": 12,
    "num_layers": 2,
    "num_decoder_layers": 1,
    "num_heads": 3,
    "dropout_rate": 0.1,
}
WORDS = ["In the beginning was the word, and the word was with all."] * 9
FIRST = "encoder.block.0.layer.0.SelfAttention.q.weight"


def random_tensors(config: dict, dtype: type, apart: bool) -> dict[str, np.ndarray]:
    """Tensors as stored, in an order of their own: [outputs, inputs], shapes written out here."""
    draw, d, inner, ff = np.random.default_rng(0), 8, 12, 12
    model = FAMILIES["t5"].read(config, apart)
    assert dict(leaves(declare.model(model)))
    shapes = {"q": (inner, d), "k": (inner, d), "v": (inner, d), "o": (d, inner), "wo": (d, ff)}
    shapes |= dict.fromkeys(("wi", "wi_0", "wi_1"), (ff, d)) | {"relative_attention_bias": (32, 3)}
    shapes |= dict.fromkeys(("shared", "lm_head"), (20, d))
    names = sorted(name for name, _, _ in FAMILIES["t5"].tensors(model))
    return {n: draw.normal(size=shapes.get(n.split(".")[-2], (d,))).astype(dtype) for n in names}


def folder(path: Path, held: dict[str, np.ndarray], **changes: object) -> Path:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    tensors.write(path / tensors.ONE, held)
    return path


def converted(source: Path, to: Path) -> int:
    return main(["convert", "--from", "hf", str(source), "--to", str(to)])


def test_there_and_back_bit_by_bit(tmp_path):
    """bfloat16, two files with an index, GEGLU, a head of its own, and a copy of the table under another name."""
    changes = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    held = random_tensors({**CONFIG, **changes}, ml_dtypes.bfloat16, apart=True)
    held["encoder.embed_tokens.weight"] = held["shared.weight"]
    source = folder(tmp_path / "hf", {}, **changes)
    (source / tensors.ONE).unlink()
    names = sorted(held)
    places = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(places.values()):
        tensors.write(source / file, {name: held[name] for name in names if places[name] == file})
    (source / tensors.INDEX).write_text(json.dumps({"weight_map": places}))
    assert converted(source, tmp_path / "run") == 0
    assert main(["convert", "--from", str(tmp_path / "run"), "--to", "hf", str(tmp_path / "again")]) == 0
    again = tensors.read(tmp_path / "again")
    assert {n: (t.dtype, t.shape, t.tobytes()) for n, t in again.items()} == {
        n: (t.dtype, t.shape, t.tobytes()) for n, t in held.items()
    }
    assert json.loads((tmp_path / "again" / "config.json").read_text()) == {**CONFIG, **changes}
    # A run that was trained from it has no record of the folder: the model alone says what config.json says.
    (tmp_path / "run" / "hf.json").unlink()
    to_hf(tmp_path / "run", tmp_path / "anew")
    anew = json.loads((tmp_path / "anew" / "config.json").read_text())
    assert FAMILIES["t5"].read(anew, True) == FAMILIES["t5"].read({**CONFIG, **changes}, True)


def test_tensors_that_do_not_fit_are_listed(tmp_path, capsys):
    held = random_tensors(CONFIG, np.float32, apart=False)
    lost = [held.pop(name) for name in ("decoder.final_layer_norm.weight", "encoder.final_layer_norm.weight")]
    held |= {"strange": lost[0], FIRST: held[FIRST].T.copy()}
    held["decoder.embed_tokens.weight"] = held["shared.weight"] + 1
    assert converted(folder(tmp_path / "hf", held), tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "missing: decoder.final_layer_norm.weight, encoder.final_layer_norm.weight; unknown: strange; " in said
    assert f"of another shape: {FIRST} is (8, 12) where the configuration says (12, 8)" in said
    assert "not the copy it should be: decoder.embed_tokens.weight" in said


def spoilt(kind: str, path: Path) -> None:
    """Make of a sound folder one that is refused."""
    config, weights = path / "config.json", path / tensors.ONE
    data = json.loads(config.read_text())
    if kind == "no config":
        config.unlink()
    elif kind == "pickle":
        weights.rename(path / "pytorch_model.bin")
    elif kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif kind == "shard":
        (path / tensors.INDEX).write_text(json.dumps({"weight_map": {FIRST: "model-1.safetensors"}}))
    elif kind == "outside":
        (path / tensors.INDEX).write_text(json.dumps({"weight_map": {FIRST: "../model.safetensors"}}))
    else:
        name, _, value = kind.partition("=")
        config.write_text(json.dumps({**data, name: json.loads(value)}))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no config", "can't read"),
        ("pickle", "a pickle may run code and is not read"),
        ("truncated", "is damaged or truncated"),
        ("shard", "can't read"),
        ("outside", "files that stand beside it"),
        ('model_type="bert"', "model_type = 'bert' is not accepted: one of t5, mt5, "),
        ("tie_word_embeddings=false", "tie_word_embeddings = False is not accepted"),
        ('feed_forward_proj="gated-relu"', "feed_forward_proj = 'gated-relu' is not accepted"),
        ("layer_norm_epsilon=-1e-5", "layer_norm_epsilon = -1e-05 is not accepted"),
        ('d_model="8"', "d_model = '8' is not accepted"),
    ],
)
def test_a_folder_that_is_refused_leaves_nothing(kind, message, tmp_path, capsys):
    source = folder(tmp_path / "hf", random_tensors(CONFIG, np.float32, apart=False))
    spoilt(kind, source)
    assert converted(source, tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_a_folder_that_is_there_stays(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    source = folder(tmp_path / "hf", random_tensors(CONFIG, np.float32, apart=False))
    assert converted(source, tmp_path / "run") == 2
    assert main(["convert", "--from", str(source), "--to", str(tmp_path / "other")]) == 2
    assert "a folder that is not there yet" in capsys.readouterr().err
    assert not any((tmp_path / "run").iterdir())


def test_names_without_their_prefix_and_what_enters_nothing_come_back(tmp_path, capsys):
    """GPT-2 as it was published: no prefix, the mask among the tensors, three projections in one of them."""
    config = json.loads((GOLDEN / "gpt2.json").read_text())["config"]
    family = FAMILIES["gpt2"]
    model = family.read(config, False)
    declared = dict(leaves(declare.model(model)))
    held = {"h.0.attn.bias": np.tril(np.ones((1, 1, 20, 20), np.float32))}
    for name, paths, _ in family.tensors(model):
        shape = shape_of(family, name, [declared[path] for path in paths])
        held[name.removeprefix("transformer.")] = drawn("gpt2", name, shape).astype(np.float16)
    source = folder(tmp_path / "hf", held)
    (source / "config.json").write_text(json.dumps(config))
    assert converted(source, tmp_path / "run") == 0
    assert main(["convert", "--from", str(tmp_path / "run"), "--to", "hf", str(tmp_path / "again")]) == 0
    again = tensors.read(tmp_path / "again")
    assert {n: (t.dtype, t.tobytes()) for n, t in again.items()} == {n: (t.dtype, t.tobytes()) for n, t in held.items()}
    spoilt = held | {"h.0.attn.c_attn.weight": held["h.0.attn.c_attn.weight"].T.copy()}
    assert converted(folder(tmp_path / "other", spoilt, **config), tmp_path / "second") == 2
    assert "h.0.attn.c_attn.weight is (72, 24) where the configuration says (24, 72)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_type = 'dynamic' is not accepted"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "factor = None is not accepted"),
        ("llama", {"rope_scaling": {"type": "linear", "factor": 1.0}}, "model.rope_factor = 1.0 is not accepted"),
        ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 2.0}}, "original_max_position_embeddings = None"),
        ("llama", {"rope_scaling": {"type": "llama3", "factor": 2.0, "low_freq_factor": 2.0}}, "low_freq_factor = 2.0"),
        ("llama", {"rope_scaling": {"type": "yarn", "factor": 2.0, "attention_factor": 1.0}}, "attention_factor = 1.0"),
        ("llama", {"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor = 0.5 is not accepted"),
        ("llama", {"rope_parameters": 3}, "rope_parameters = 3 is not accepted: an object with rope_theta"),
        ("llama", {"rope_theta": 0}, "rope_theta = 0 is not accepted"),
        ("llama", {"attention_bias": 1}, "attention_bias = 1 is not accepted: true or false"),
        ("gemma2", {"attention_bias": True}, "attention_bias = True is not accepted: one of False"),
        ("bart", {"normalize_before": True}, "normalize_before = True is not accepted: False, as Bart is"),
        ("bart", {"tie_word_embeddings": False}, "tie_word_embeddings = False is not accepted"),
        ("bart", {"encoder_attention_heads": 7}, "encoder_attention_heads = 7 is not accepted: a divisor of d_model"),
        ("marian", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings = False is not"),
        ("marian", {"decoder_vocab_size": 7}, "decoder_vocab_size = 7 is not accepted: 58101"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx = True is not accepted"),
        ("gpt2", {"n_head": 7}, "n_head = 7 is not accepted: a divisor of n_embd = 768"),
        ("t5gemma", {}, "encoder = None is not accepted: an object with named fields"),
        ("t5gemma", {"encoder": {}, "decoder": {"rms_norm_eps": 1.0}}, "what is here norm_epsilon = 1.0 is not"),
        ("t5gemma2", {"encoder": {"text_config": 1}}, "text_config = 1 is not accepted"),
        ("llama", {"hidden_act": "gelu"}, "hidden_act = 'gelu' is not accepted: one of silu"),
        ("llama", {"num_key_value_heads": 3}, "num_key_value_heads = 3 is not accepted: a divisor of"),
        ("llama", {"hidden_size": 10}, "hidden_size = 10 is not accepted: a multiple of num_attention_heads = 32"),
        ("llama", {"tie_word_embeddings": 1}, "tie_word_embeddings = 1 is not accepted: true or false"),
        ("transformer", {"vocab_size": 9, "nhead": 7}, "nhead = 7 is not accepted: a divisor of d_model = 512"),
        ("transformer", {}, "vocab_size = None is not accepted: a whole number above 0"),
        (
            "transformer",
            {"vocab_size": 9, "tie": True},
            "tie = True is not accepted: one of all, inputs, decoder, none",
        ),
        ("modernbert", {"local_attention": 7}, "local_attention = 7 is not accepted: an even number, at least 2"),
        ("modernbert", {"classifier_bias": True}, "classifier_bias = True is not accepted: one of False"),
        ("modernbert", {"num_attention_heads": 7}, "num_attention_heads = 7 is not accepted: a divisor of hidden_size"),
        ("modernbert", {"layer_types": ["sliding_attention"] * 21 + ["full_attention"]}, "the first of each so many"),
        ("modernbert", {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling = .* is not accepted: null"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window = True is not accepted"),
        ("mistral", {"sliding_window": "4"}, "sliding_window = '4' is not accepted"),
        ("gemma2", {"layer_types": ["full_attention"]}, "layer_types = .* is not accepted: 26 of"),
        ("gemma2", {"num_hidden_layers": 2, "layer_types": ["full_attention", "sliding_attention"]}, "all alike, or"),
        ("gemma2", {"num_hidden_layers": 1, "layer_types": [[]]}, "layer_types = "),
        ("gemma2", {"attn_logit_softcapping": -1}, "attn_logit_softcapping = -1 is not accepted"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention = True is not accepted"),
        ("gemma3_text", {"rope_parameters": {"full_attention": 1}}, "rope_parameters: full_attention = 1 is not"),
    ],
)
def test_what_there_is_no_part_for_is_refused(kind, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        FAMILIES[kind].read(changes, False)
    assert "\n" not in str(caught.value)


def test_older_files_say_the_same():
    """Of one base of RoPE and of two, of a head that groups do not share, and of windows by their turns."""
    new = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "num_key_value_heads": 32}
    assert FAMILIES["llama"].read(new, False) == FAMILIES["llama"].read({"rope_theta": 5e5}, False)
    bases = {"full_attention": {"rope_theta": 5e5}, "sliding_attention": {"rope_theta": 9.0}}
    kinds = ["full_attention" if i % 4 == 3 else "sliding_attention" for i in range(26)]
    bert = FAMILIES["modernbert"].read
    assert bert({"global_rope_theta": 5e5, "local_rope_theta": 9.0}, False) == bert({"rope_parameters": bases}, False)
    turns = {"layer_types": ["full_attention" if i % 4 == 0 else "sliding_attention" for i in range(22)]}
    assert bert(turns, False) == bert({"global_attn_every_n_layers": 4}, False)
    assert bert({"layer_types": ["full_attention"] * 22}, False).decoder.window == 0
    old = {"rope_theta": 5e5, "rope_local_base_freq": 9.0, "sliding_window_pattern": 4}
    gemma = FAMILIES["gemma3_text"].read
    assert gemma({"rope_parameters": bases, "layer_types": kinds}, False) == gemma(old, False)


def test_a_model_of_no_family_is_told_the_nearest():
    config = replace(FAMILIES["llama"].read({}, False), mlp="relu2")
    with pytest.raises(UserError, match=r"none of t5, .*; llama does not have model.mlp = 'relu2'$"):
        family_of(config)
    other = {"norm_first": True, "bias": False, "tie": "none", "head_bias": True, "positions": "halves"}
    config = FAMILIES["transformer"].read(
        {"vocab_size": 9, "activation": "gelu", "scale_embedding": False, **other}, False
    )
    assert other.items() <= family_of(config)[2].items()


def with_pieces(path: Path, pieces: bytes) -> Path:
    held = random_tensors(CONFIG, np.float32, apart=False)
    held["shared.weight"] = np.random.default_rng(1).normal(size=(280, 8)).astype(np.float32)
    source = folder(path, held, vocab_size=280)
    (source / "spiece.model").write_bytes(pieces)
    return source


@pytest.mark.slow  # it compiles a converted model
def test_a_models_vocabulary_comes_with_it(tmp_path, folders, capsys):
    known = train("spm278", 278, WORDS)
    assert converted(with_pieces(tmp_path / "hf", known.model), tmp_path / "run") == 0
    file = tmp_path / "run" / "spiece.model"
    assert f"encdec prepare --task TASK --vocab {file}" in capsys.readouterr().out
    run = read_run(tmp_path / "run" / "config.json")
    assert run.data.vocab == vocab_name(str(file), None)
    assert vocabulary(tmp_path / "run", run.data).model == known.model
    # Scored without the task that a configuration names by itself, which nobody has prepared in these pieces.
    text = known.encode("In the beginning was the word. " * 40)
    write_cache("words", vocab_of(run.data.vocab, known.model), ("targets",), {"train": [(text,)]})
    write_cache("letters", ByteVocab(), ("targets",), {"train": [(ByteVocab().encode("abc" * 9),)]})
    small = ["evaluate", str(tmp_path / "run"), "--split", "train", "--documents", "--task"]
    assert main([*small, "words"]) == 0
    # Training goes on from it in its pieces alone.
    words = replace(run, data=replace(run.data, task="words"))
    pretrained.check_vocab(words, run, tmp_path / "run")
    with pytest.raises(UserError, match=rf"that of train.init_from: prepare the task with --vocab {file}"):
        pretrained.check_vocab(replace(run, data=replace(run.data, task="letters", vocab="bytes")), run, file.parent)
    assert main(["convert", "--from", str(tmp_path / "run"), "--to", "hf", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "spiece.model").read_bytes() == known.model


def test_a_vocabulary_of_other_ids_is_left(tmp_path, capsys):
    pieces = train("spm282", 282, WORDS).model
    assert converted(with_pieces(tmp_path / "hf", pieces), tmp_path / "run") == 0
    out, err = capsys.readouterr()
    assert "none came with it: bytes" in out
    assert "282 is not accepted: at most the model's 280 ids" in err
    assert read_run(tmp_path / "run" / "config.json").data.vocab == "bytes"
    assert not (tmp_path / "run" / "spiece.model").exists()
