"""Preparing seqio Tasks and Mixtures. The one file of tests that imports TensorFlow, which takes its time."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
from tiny import encdec

from encdec_jax.data import pieces, prepare
from encdec_jax.data.bestfit import next_fit
from encdec_jax.data.cache import TokenCache
from encdec_jax.data.config import DataConfig
from encdec_jax.data.corpus import FEATURES, documents, verses
from encdec_jax.data.fetch.artifacts import Artifact
from encdec_jax.data.fetch.catalogue import FETCHED
from encdec_jax.data.fetch.fetch import examples, fetch
from encdec_jax.data.named_vocab import vocab_name
from encdec_jax.data.vocab import ByteVocab
from encdec_jax.errors import UserError

ABSENT = "the extra [data] is not installed"
seqio = pytest.importorskip("seqio", reason=ABSENT)
tf = pytest.importorskip("tensorflow", reason=ABSENT)
tfds = pytest.importorskip("tensorflow_datasets", reason=ABSENT)
bible = pytest.importorskip("encdec_jax.data.bible.bible", reason=ABSENT)
fetched = pytest.importorskip("encdec_jax.data.fetched.fetched", reason=ABSENT)
public = pytest.importorskip("encdec_jax.data.public", reason=ABSENT)

pytestmark = pytest.mark.slow

MODULE = """
import seqio
import tensorflow as tf

from encdec_jax.data.corpus import verses

LINES = [verse.text for verse in verses("rv1909")[:60]] + [""]


def pairs(split, shuffle_files):
    return tf.data.Dataset.from_tensor_slices({"inputs": LINES, "targets": [line[::-1] for line in LINES]})


def broken(split, shuffle_files):
    raise OSError("no such server")


def task(name, preprocessors, feature, keys=("inputs", "targets"), function=pairs, splits=("train", "dev")):
    source = seqio.FunctionDataSource(function, splits=splits)
    features = {key: feature for key in keys}
    return seqio.TaskRegistry.add(name, source=source, preprocessors=preprocessors, output_features=features)


TEXT = seqio.Feature(seqio.PassThroughVocabulary(1), dtype=tf.string, rank=0)
BYTES = seqio.Feature(seqio.ByteVocabulary(), add_eos=True)
PIECES = seqio.Feature(seqio.SentencePieceVocabulary("MODEL", extra_ids=100), add_eos=True)
CODEPOINTS = seqio.Feature(seqio.PassThroughVocabulary(1000))
BARE = [lambda ds: ds.map(lambda x: {"targets": tf.cast(tf.strings.unicode_decode(x["targets"], "UTF-8"), tf.int32)})]

task("temp_text", [], TEXT)
task("temp_targets", [], TEXT, keys=("targets",), splits=("train",))
task("temp_bytes", [seqio.preprocessors.tokenize, seqio.preprocessors.append_eos], BYTES)
task("temp_pieces", [seqio.preprocessors.tokenize], PIECES)
task("temp_bare", BARE, CODEPOINTS, keys=("targets",))
task("temp_inputs", [], TEXT, keys=("inputs",))
task("temp_broken", [], TEXT, function=broken)


def lines(name):
    return lambda split, shuffle_files: tf.data.Dataset.from_tensor_slices({"targets": [b"fine", FAULTY[name]]})


def own(name):
    def function(split, shuffle_files):
        ids, texts = OWN[name]
        rows = {"targets": [[70, 71], ids], **({"targets_pretokenized": ["CD", texts]} if texts else {})}
        return tf.data.Dataset.from_tensor_slices(rows)

    return function


FAULTY = {"latin": b"caf\\xe9", "block": "\\u2581 a space".encode()}
OWN = {"eos": ([1, 71], None), "pad": ([0, 71], None), "unk": ([2, 71], None), "text_own": ([70, 71], "CE")}
for name in FAULTY:
    task(f"temp_{name}", [], TEXT, keys=("targets",), function=lines(name), splits=("train",))
for name in OWN:
    task(f"temp_{name}", [], BYTES, keys=("targets",), function=own(name), splits=("train",))


def tfds(name, source):
    source = seqio.TfdsDataSource(**source)
    seqio.TaskRegistry.add(name, source=source, preprocessors=[], output_features={"targets": TEXT})


tfds("temp_unbuilt", {"tfds_name": "wikipedia/20230601.en:1.0.0"})
tfds("temp_unknown", {"tfds_name": "no_such_data:1.0.0"})
seqio.MixtureRegistry.add("temp_mixture", [("temp_text", 1.0)])
seqio.MixtureRegistry.add("temp_tokens", [("temp_bytes", 1.0)])
task("temp_short", [], TEXT, splits=("train",))
seqio.MixtureRegistry.add("temp_uneven", [("temp_text", 1.0), ("temp_short", 1.0)])
"""
LINES = [verse.text for verse in verses("rv1909")[:60]] + [""]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "spiece.model"
    path.write_bytes(pieces.train("spm330", 330, LINES).model)
    return path


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory, model):
    """The module of a user, in the working directory."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "temp_tasks.py").write_text(MODULE.replace("MODEL", str(model)))
    (folder / "temp_wrong.py").write_text("import nothing_of_that_name")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield "temp_tasks"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path))
    return tmp_path


def stored(cache: TokenCache, split: str, feature: str) -> list[str]:
    tokens, offsets = cache.tokens(split, feature), cache.offsets(split, feature)
    assert (tokens[offsets[1:] - 1] == cache.vocab.eos_id).all()
    return [cache.vocab.decode(tokens[a:b]) for a, b in itertools.pairwise(offsets)]


def test_byte_ids_are_seqios():
    text = "Añadió: 日本 😀"
    assert ByteVocab().encode(text) == seqio.ByteVocabulary().encode(text)
    assert ByteVocab().size == seqio.ByteVocabulary().vocab_size


@pytest.mark.parametrize("task", FEATURES)
def test_the_shipped_tasks(task):
    folder = prepare.prepare(task)
    cache = TokenCache.open(task, "bytes")
    assert (cache.folder, cache.features) == (folder, FEATURES[task])
    for feature in cache.features:
        assert stored(cache, "test", feature) == [document[feature] for document in documents(task, "test")]
    assert sorted(cache.splits) == ["test", "train", "validation"]


@pytest.mark.parametrize("task", ["temp_text", "temp_bytes", "temp_mixture", "temp_tokens"])
@pytest.mark.parametrize("vocab", ["bytes", "spm330"])
def test_tasks_and_mixtures_of_a_user(module, task, vocab):
    prepare.prepare(task, vocab, module)
    cache = TokenCache.open(task, vocab)
    assert sorted(cache.splits) == ["dev", "train"]
    assert stored(cache, "train", "inputs") == LINES
    assert stored(cache, "dev", "targets") == [line[::-1] for line in LINES]


def test_a_mixture_says_which_tasks_a_split_lacks(module, capsys):
    """seqio leaves them out with a warning that nobody sees: held-out text was of some tasks only."""
    prepare.prepare("temp_uneven", module=module)
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "left out" in line)
    assert line == "dev: temp_short of the mixture have no such split and are left out of it"


def test_a_module_may_be_a_file_anywhere(tmp_path):
    file = tmp_path / "elsewhere/temp_other.py"
    file.parent.mkdir()
    file.write_text("from temp_tasks import TEXT, task\ntask('temp_other', [], TEXT)\n")
    prepare.prepare("temp_other", module=str(file))
    prepare.prepare("temp_other", "spm330", module=str(file))
    assert stored(TokenCache.open("temp_other", "bytes"), "train", "inputs") == LINES


@pytest.mark.parametrize("task", ["temp_bytes", "temp_tokens", "temp_pieces"])
def test_a_tasks_own_ids(module, model, task):
    prepare.prepare(task, "own", module)
    cache = TokenCache.open(task, "own")
    assert cache.vocab.model == (model.read_bytes() if task == "temp_pieces" else None)
    assert stored(cache, "train", "inputs") == LINES
    ends = np.flatnonzero(cache.tokens("train", "inputs") == cache.vocab.eos_id) + 1
    assert ends.tolist() == cache.offsets("train", "inputs")[1:].tolist()


def test_sentencepiece_is_the_same_every_time(module, tmp_path, monkeypatch):
    digests = []
    for place in ("a", "b"):
        monkeypatch.setenv("ENCDEC_CACHE", str(tmp_path / place))
        prepare.prepare("temp_text", "spm", module, vocab_size=330)
        digests.append(TokenCache.open("temp_text", "spm330").digest)
    assert digests[0] == digests[1]


def test_a_damaged_cache_is_prepared_again(module, capsys):
    folder = prepare.prepare("temp_targets", module=module)
    prepare.prepare("temp_targets", module=module)
    assert "already prepared" in capsys.readouterr().out
    (folder / "train.targets.bin").write_bytes(b"")
    prepare.prepare("temp_targets", module=module)
    assert stored(TokenCache.open("temp_targets", "bytes"), "train", "targets") == [line[::-1] for line in LINES]


@pytest.mark.parametrize(
    ("task", "vocab", "named", "message"),
    [
        ("temp_txet", "bytes", "temp_tasks", "near it .*temp_text"),
        ("bible_fr", "bytes", None, "near it .*bible_en.*needs --module"),
        ("temp_text", "bytes", "temp_nowhere", "module = 'temp_nowhere'.*No module named"),
        ("temp_text", "bytes", "temp_wrong", "module = 'temp_wrong'.*nothing_of_that_name"),
        ("temp_text", "bytes", "temp_wrong.py", "module = 'temp_wrong.py'.*nothing_of_that_name"),
        ("temp_text", "bytes", "temp_nowhere.py", "module = 'temp_nowhere.py'.*there is no such file"),
        ("temp_unbuilt", "bytes", "temp_tasks", "can't read the splits of task 'temp_unbuilt'.*tfds build"),
        ("temp_unknown", "bytes", "temp_tasks", "can't read the splits of task 'temp_unknown'.*no_such_data not found"),
        ("temp_inputs", "bytes", "temp_tasks", "output features of task 'temp_inputs'"),
        ("temp_bare", "bytes", "temp_tasks", "feature 'targets' .* = int32.*--vocab own"),
        ("temp_bare", "own", "temp_tasks", "PassThroughVocabulary"),
        ("temp_text", "own", "temp_tasks", "PassThroughVocabulary"),
        ("temp_text", "spm4000", "temp_tasks", "vocab_size = 4000"),
        ("temp_broken", "bytes", "temp_tasks", "can't read split .* of task 'temp_broken'.*no such server"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(root, task, vocab, named, message):
    with pytest.raises(UserError, match=message) as caught:
        prepare.prepare(task, vocab, named)
    assert "\n" not in str(caught.value)
    assert list(root.rglob("*")) in ([], [root / "tokens"])


USER = """
import json
import seqio
import tensorflow as tf
from encdec_jax.data.tasks import TEXT


def read(split, shuffle_files):
    with open("mine.json") as file:
        return tf.data.Dataset.from_tensor_slices({"targets": json.load(file)})


def native(split, shuffle_files):
    return tf.data.TextLineDataset("native.txt").map(lambda line: {"targets": line})


for name, function in (("mine", read), ("native", native)):
    source = seqio.FunctionDataSource(function, splits=("train",))
    seqio.TaskRegistry.add(name, source=source, preprocessors=[], output_features={"targets": TEXT})
files = seqio.TextLineDataSource({"train": "lines*.txt"})
named = [lambda ds: ds.map(lambda line: {"targets": line})]
seqio.TaskRegistry.add("files", source=files, preprocessors=named, output_features={"targets": TEXT})
"""


@pytest.mark.slow
def test_a_task_is_known_by_its_content(tmp_path, monkeypatch):
    """An edited task or a changed data file said 'already prepared', and a module that is not there ended with 0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "mine.json").write_text('["ab"]')
    (tmp_path / "native.txt").write_text("ab\n")
    (tmp_path / "lines1.txt").write_text("ab\n")

    def told(task: str, *more: str, module: str | None = "user") -> str:
        named = () if module is None else ("--module", module)
        done = encdec("prepare", "--task", task, *named, *more)
        assert done.returncode in (0, 2)
        return done.stdout if done.returncode == 0 else done.stderr

    assert "prepared: " in told("mine")
    assert "already prepared: " in told("mine")
    assert "module = 'nowhere' is not accepted" in told("mine", module="nowhere")
    assert "no such seqio Task" in told("mine", module=None)
    (tmp_path / "mine.json").write_text('["cd", "e"]')
    assert "train: 2 documents" in told("mine")
    assert "checked: " in told("mine", "--check")
    (tmp_path / "user.py").write_text(USER.replace("json.load(file)", "json.load(file)[:1]"))
    assert "train: 1 documents" in told("mine")
    assert "train: 1 documents" in told("files")
    (tmp_path / "lines2.txt").write_text("cd\n")
    assert "train: 2 documents" in told("files")
    assert "train: 1 documents" in told("native")
    (tmp_path / "native.txt").write_text("cd\nab\n")
    assert "already prepared: " in told("native")  # TensorFlow opens it: only the whole check can see it
    assert "task = 'native' does not give the tokens in" in told("native", "--check")


@pytest.mark.parametrize(
    ("task", "vocab", "message"),
    [
        ("temp_latin", "bytes", "example 1 of split 'train' of task 'temp_latin' is not accepted: byte 3 is 0xe9, no"),
        ("temp_eos", "own", "token id = 1 in example 1 of split 'train' is not accepted"),
        ("temp_pad", "own", "token id = 0 in example 1 of split 'train' is not accepted"),
        ("temp_unk", "own", "token id = 2 in example 1 of split 'train' is not accepted"),
    ],
)
def test_text_that_would_not_be_kept_is_refused_by_its_number(module, root, task, vocab, message):
    with pytest.raises(UserError) as caught:
        prepare.prepare(task, vocab, module)
    assert message in str(caught.value)
    assert list(root.rglob("*.bin")) == []


def test_text_that_its_ids_do_not_stand_for_is_refused(module, root):
    with pytest.raises(UserError, match="example 1 of split 'train' is not accepted in vocab 'own': 'E' is not kept"):
        prepare.prepare("temp_text_own", "own", module)


def test_what_sentencepiece_would_change_is_refused_and_bytes_keep(module, monkeypatch):
    made = pieces.train("spm330", 330, LINES)  # the task has too little text to train on
    monkeypatch.setattr(prepare.pieces, "train", lambda *_: made)
    with pytest.raises(
        UserError, match=r"example 1 of split 'train' is not accepted in vocab 'spm330': .* is not kept"
    ):
        prepare.prepare("temp_block", "spm330", module)
    prepare.prepare("temp_block", "bytes", module)
    assert len(stored(TokenCache.open("temp_block", "bytes"), "train", "targets")) == 2


def test_pairs_too_long_are_counted(module, capsys, monkeypatch):
    monkeypatch.setattr(prepare, "DataConfig", functools.partial(DataConfig, source_length=100, target_length=100))
    prepare.prepare("temp_text", "bytes", module)
    lengths = [len(line.encode()) + 1 for line in LINES]
    told = f"train: {sum(n > 100 for n in lengths)} of {len(LINES)} pairs are dropped at data.source_length = 100"
    out = capsys.readouterr().out
    assert told in out
    assert "seqio's greedy packing" in out
    assert f"the longest pairs have {max(lengths)} and {max(lengths)} tokens" in out


@pytest.mark.parametrize(
    ("vocab", "size", "message"),
    [
        ("words", None, "vocab = 'words'"),
        ("spm", None, "vocab = 'spm'"),
        ("bytes", 300, "vocab_size = 300"),
        ("spm512", 300, "vocab_size = 300"),
        ("spm", 100, "at least 300"),
    ],
)
def test_vocabularies_are_named(vocab, size, message):
    with pytest.raises(UserError, match=message):
        vocab_name(vocab, size)
    assert vocab_name("spm", 512) == vocab_name("spm512", None) == vocab_name("spm512", 512) == "spm512"


EXAMPLES = {
    "c4": ({"text": "a page"}, {"targets": "a page"}),
    "wmt14_en_de": ({"en": "yes", "de": "ja"}, {"inputs": "translate English to German: yes", "targets": "ja"}),
    "wmt14_fr_en": ({"en": "yes", "fr": "oui"}, {"inputs": "translate French to English: oui", "targets": "yes"}),
    "cnn_dailymail": ({"article": "long", "highlights": "short"}, {"inputs": "summarize: long", "targets": "short"}),
    "squad": (
        {"question": "Who?", "context": "She did.", "answers": {"text": ["She", "she did"]}},
        {"inputs": "question: Who? context: She did.", "targets": "She"},
    ),
    "instruct_rte": (
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": 0},
        {"inputs": "Read this: It rains.\nDoes it follow that It is wet.\nOptions: yes, no", "targets": "yes"},
    ),
    "instruct_boolq": (
        {"passage": "It rains.", "question": "is it dry", "answer": False},
        {"inputs": "Read this: It rains.\nQuestion: is it dry?\nOptions: yes, no", "targets": "no"},
    ),
}


@pytest.mark.parametrize("task", EXAMPLES)
def test_public_tasks_have_the_standard_format(task):
    example, expected = EXAMPLES[task]
    found = public.PUBLIC[task][1](tf.nest.map_structure(tf.constant, example))
    assert {name: found[name].numpy().decode() for name in expected} == expected
    post = seqio.get_mixture_or_task(task).postprocess_fn
    target = post("She", example={"answers": [b"She", b"she did"]}, is_target=True)
    assert target == (["She", "she did"] if task == "squad" else "She")


def test_a_public_task_that_is_not_on_disk_is_one_line():
    with pytest.raises(UserError, match=r"can't read the splits of task 'squad'.*`tfds build`") as caught:
        prepare.prepare("squad")
    assert "\n" not in str(caught.value)


def test_fetched_data_is_a_seqio_task_and_a_tfds_builder(tmp_path, monkeypatch):
    rows = [(f"g{k}", (f"word{k}", f"P{k}")) for k in range(60)]
    monkeypatch.setattr(Artifact, "get", lambda self: tmp_path)
    monkeypatch.setitem(FETCHED, "cmudict", replace(FETCHED["cmudict"], make=lambda *_: iter(rows)))
    with pytest.raises(UserError, match="first encdec fetch cmudict"):
        list(examples("cmudict", "test"))
    fetch("cmudict")
    builder = fetched.FetchedData(config="cmudict", data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    built = {(e["inputs"].decode(), e["targets"].decode()) for e in tfds.as_numpy(builder.as_dataset(split="train"))}
    dataset = seqio.get_mixture_or_task("cmudict").get_dataset(sequence_length=None, split="train", shuffle=False)
    read = {(e["inputs"].decode(), e["targets"].decode()) for e in tfds.as_numpy(dataset)}
    assert built == read == set(examples("cmudict", "train"))


def test_the_tfds_builder_and_a_split_that_it_lacks(tmp_path):
    builder = bible.Bible(config="en_es", data_dir=tmp_path)
    builder.download_and_prepare()
    examples = tfds.as_numpy(builder.as_dataset(split="test"))
    found = sorted((example["inputs"].decode(), example["targets"].decode()) for example in examples)
    assert found == sorted((d["inputs"], d["targets"]) for d in documents("bible_en_es", "test"))
    source = seqio.TfdsDataSource("bible/en_es:1.0.0", tfds_data_dir=str(tmp_path), splits={"train": "trian"})
    text = seqio.Feature(seqio.PassThroughVocabulary(1), dtype=tf.string, rank=0)
    seqio.TaskRegistry.add("temp_split", source=source, preprocessors=[], output_features={"targets": text})
    with pytest.raises(UserError, match=r"can't read split 'train' of task 'temp_split'.*trian") as caught:
        prepare.prepare("temp_split")
    assert "\n" not in str(caught.value)


def test_greedy_packing_is_seqios():
    """The rows that ours are reported beside."""
    rng = np.random.default_rng(0)
    sources, targets = rng.integers(1, 30, (2, 200))
    rows = [
        {"inputs": np.ones(s, np.int32), "targets": np.ones(t, np.int32)} for s, t in zip(sources, targets, strict=True)
    ]
    spec = {name: tf.TensorSpec([None], tf.int32) for name in ("inputs", "targets")}
    dataset = tf.data.Dataset.from_generator(lambda: iter(rows), output_signature=spec)
    packed = seqio.trim_and_pack_dataset(dataset, {"inputs": 50, "targets": 40})
    assert len(list(packed)) == next_fit(sources, targets, (50, 40))
