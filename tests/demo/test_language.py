"""Training texts of the tiny Llama: descriptions in place of clip vectors, loss weights; tags of the encoder."""

import numpy as np
import pytest

from nlm_jax.data.text import CLIP_MARK, build_sequence
from nlm_jax.demo import corpus, data, encoder, language
from nlm_jax.demo.presets import TINY_SIZES
from nlm_jax.demo.species import SPECIES
from nlm_jax.testing import tokenizer


@pytest.fixture(scope="module")
def words():
    return tokenizer()


def test_description_replaces_the_clip_vectors(words):
    """The text with its description cut out is the audio sequence with its vectors cut out, token for token."""
    text = language.make_text(words, "What is it?", "Great Tit", "a bird sings")
    sequence = build_sequence(words, f"{CLIP_MARK} What is it?", "Great Tit", 1, 5)
    outside = text.ids[: text.described.start] + text.ids[text.described.stop :]
    assert outside == [t for t, slot in zip(sequence.tokens, sequence.audio_slot, strict=True) if slot < 0]
    assert words.decode(text.ids[text.described]) == "a bird sings"
    assert words.decode(text.ids[text.answer :]) == "Great Tit"


def test_packed_rows_hold_whole_texts(words):
    texts = [language.make_text(words, f"Question {i}?", f"answer {i}", "sound") for i in range(6)]
    longest = max(len(t.ids) for t in texts)
    rows = language.pack(texts, np.arange(6), rows=2, row_tokens=2 * longest, outside=0.1)
    assert rows["segments"].max() == 2
    for row, first in ((0, 0), (1, 2)):
        ids = rows["tokens"][row][rows["segments"][row] > 0]
        assert ids.tolist() == texts[first].ids + texts[first + 1].ids
    # The weights sit one place before the answer's tokens, and never on a text's last token.
    text, weights = texts[0], rows["weights"][0]
    assert (weights[text.answer - 1 : len(text.ids) - 1] == 1).all()
    assert weights[: text.answer - 1] == pytest.approx(0.1)
    assert weights[len(text.ids) - 1] == 0
    assert rows["described"][0, text.described].all()


def test_tags_name_no_species_word_or_count():
    tags = {tag for scene in corpus.scenes(0, TINY_SIZES) for tag in encoder.tags(scene)} | {
        w for p in encoder.SOUND_WORDS.values() for w in p
    }
    forbidden = {w.lower() for s in SPECIES for w in (*s.common.split(), *s.scientific.split())}
    assert not tags & (forbidden | {"zero", "one", "two", "three"})
    assert set(encoder.SOUND_WORDS) == {s.common for s in SPECIES}
    words = [word for pair in encoder.SOUND_WORDS.values() for word in pair]
    assert len(set(words)) < len(words)  # some words stand for several species


def test_real_clips_are_described_by_their_short_answers(tmp_path):
    paths = corpus.write(tmp_path, 0, TINY_SIZES, 1.0)
    examples = data.read(paths["train"], "train")
    notes = data.descriptions_from_answers(examples)
    assert set(notes) == {e.paths[0] for e in examples}
    animal = next(e for e in examples if e.task == "scientific-name")
    assert animal.text in notes[animal.paths[0]].split("\n")


def test_questions_are_drawn_evenly_and_always_the_same(tmp_path):
    paths = corpus.write(tmp_path, 0, TINY_SIZES, 1.0)
    examples = data.read(paths["valid"], "valid")
    first = data.questions(examples, ["domain", "common-name"], 5)
    assert first == data.questions(examples, ["domain", "common-name"], 5)
    assert [q.task for q in first] == ["domain"] * 5 + ["common-name"] * 5
    assert all(q.answer == "" and q.expected for q in first)
