"""The engine: answers as `generate` gives them in any company, rows given on at once, threads, mistakes, the cache."""

import concurrent.futures
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.generate import decode, engine
from nlm_jax.generate.audio_cache import Encodings
from nlm_jax.generate.audio_inputs import clips_of
from nlm_jax.generate.options import GenerationOptions
from nlm_jax.generate.prompts import prompt
from nlm_jax.generate.request import Answer, Pieces

MIXED = (
    {"max_new_tokens": 2},
    {"max_new_tokens": 12, "min_length": 11},
    {"max_new_tokens": 3},
    {"max_new_tokens": 9, "temperature": 1.2, "seed": 5},
    {"max_new_tokens": 1},
    {"max_new_tokens": 12, "repetition_penalty": 1.5},
    {"max_new_tokens": 4, "top_k": 3, "temperature": 0.7},
)


@pytest.fixture(scope="module")
def expected(tiny_model, clips_and_queries):
    """What each of the mixed requests answers on its own."""
    return [
        tiny_model.generate([audio], [query], return_ids=True, **options)[0]
        for audio, query, options in zip(*clips_and_queries, MIXED, strict=True)
    ]


def test_reused_rows_do_not_change_answers(tiny_model, clips_and_queries, expected):
    engine_ = tiny_model.engine(slots=4)
    futures = [engine_.submit(a, q, **o) for a, q, o in zip(*clips_and_queries, MIXED, strict=True)]
    assert engine_.waiting == 7
    engine_.run()
    assert [f.result().ids for f in futures] == expected
    assert (engine_.waiting, engine_.active) == (0, 0)
    ended = [ids[-1] in tiny_model.tokenizer.eos_ids for ids in expected]
    assert [f.result().finish for f in futures] == ["end" if end else "length" for end in ended]


def test_long_answers_do_not_hold_up_short_ones(tiny_model, clips_and_queries, monkeypatch):
    """One answer of 20 tokens and six of 2, in 2 rows: the short ones pass through the other row meanwhile."""
    audios, queries = clips_and_queries
    calls = []

    def counted(graphdef, state, rows, *args, **options):
        before = np.array(rows.step)
        rows, streamed = decode.decode(graphdef, state, rows, *args, **options)
        calls.append(int((np.array(rows.step) - before).max()))
        return rows, streamed

    monkeypatch.setattr(engine, "decode", counted)
    engine_ = tiny_model.engine(slots=2)
    futures = [engine_.submit(audios[0], queries[0], max_new_tokens=20, min_length=20)]
    futures += [
        engine_.submit(a, q, max_new_tokens=2, min_length=2) for a, q in zip(audios[1:], queries[1:], strict=True)
    ]
    order = []
    for i, future in enumerate(futures):
        future.add_done_callback(lambda _, i=i: order.append(i))
    engine_.run()
    assert order[:5] == [1, 2, 3, 4, 5]
    assert sum(calls) == 19  # as many steps as the long one takes alone, whose first token prefill gives


def test_programs_are_compiled_once(tiny_model, clips_and_queries):
    audios, queries = clips_and_queries
    tiny_model.generate(audios, queries, 12, batch_size=4)
    sizes = decode.prefill_rows._cache_size(), decode.decode._cache_size()
    tiny_model.generate(
        audios[::-1], queries[::-1], [3, 12, 5, 1, 2, 9, 7], batch_size=4, temperature=0.5, min_length=1
    )
    engine_ = tiny_model.engine(slots=4)
    for i in range(9):
        engine_.submit(audios[i % 7], queries[i % 5], max_new_tokens=4 + i % 3)
    engine_.run()
    assert (decode.prefill_rows._cache_size(), decode.decode._cache_size()) == sizes


def test_a_longer_request_grows_the_cache(tiny_model, clips_and_queries, expected):
    """In the middle of others: more cache and more tokens than there was room for."""
    audios, queries = clips_and_queries
    engine_ = tiny_model.engine(slots=2)
    first = engine_.submit(audios[1], queries[1], on_tokens=lambda ids: None, **MIXED[1])
    engine_.step()
    long = "Say at length what you hear. " * 4
    second = engine_.submit(audios[0], long, max_new_tokens=40, min_length=40)
    engine_.run()
    assert first.result().ids == expected[1]
    alone = tiny_model.generate([audios[0]], [long], 40, min_length=40, batch_size=2, return_ids=True)[0]
    assert second.result().ids == alone
    assert len(alone) == 40


def test_threads_tokens_and_text(tiny_model, clips_and_queries, expected):
    """Submitted from three threads at once; what `on_tokens` told is the answer."""
    streamed = [[] for _ in MIXED]
    futures = [None] * len(MIXED)
    with tiny_model.engine(slots=4, steps=2) as engine_:

        def some(part):
            for i in range(part, len(MIXED), 3):
                futures[i] = engine_.submit(
                    clips_and_queries[0][i], clips_and_queries[1][i], on_tokens=streamed[i].extend, **MIXED[i]
                )

        threads = [threading.Thread(target=some, args=(part,)) for part in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        answers = [f.result(timeout=120) for f in futures]
    assert [a.ids for a in answers] == expected == streamed
    assert [a.text for a in answers] == [tiny_model.tokenizer.decode(ids) for ids in expected]
    with pytest.raises(UserError, match="the engine is closed"):
        engine_.submit(clips_and_queries[0][0], "What?")


def test_stream_is_the_answer_in_pieces(tiny_model, clips_and_queries):
    audio, query = clips_and_queries[0][0], clips_and_queries[1][0]
    how = {"max_new_tokens": 12, "min_length": 12}
    whole = tiny_model.generate([audio], [query], **how)[0]
    pieces = list(tiny_model.stream(audio, query, **how))
    assert "".join(pieces) == whole
    assert len(pieces) > 1
    stop = whole[5:7]
    assert "".join(tiny_model.stream(audio, query, stop=stop, **how)) == whole[: whole.index(stop)]
    with tiny_model.engine(slots=1) as engine_:
        assert "".join(engine_.stream(audio, query, **how)) == whole
        begun = engine_.stream(audio, query, **how)
        next(begun)
        begun.close()  # a client that is gone
        assert "".join(engine_.stream(audio, query, **how)) == whole
    with pytest.raises(UserError, match="top_p=3"):
        tiny_model.stream(audio, query, top_p=3)
    with pytest.raises(UserError, match="beams: no such option"):
        tiny_model.stream(audio, query, beams=3)


def test_pieces_hold_back_what_is_not_settled(tiny_model):
    """A character of three tokens, and the beginning of a stop text that does not come and of one that does."""
    tokenizer = tiny_model.tokenizer
    text = "a 鳥 st sto"
    pieces, out = Pieces(tokenizer, GenerationOptions(stop=["stop"])), []
    for i in tokenizer.encode(text):
        out.append(pieces.add([i]))
        assert "\ufffd" not in out[-1]
        assert not "".join(out).endswith(("s", "st", "sto"))
    assert "".join(out) == "a 鳥 st "
    ids = tokenizer.encode(text)
    assert "".join(out) + pieces.end(Answer(ids, text, "length")) == text
    pieces = Pieces(tokenizer, GenerationOptions(stop=["stop"]))
    out = [pieces.add([i]) for i in tokenizer.encode("a stop here")]
    assert "".join(out) == "a "


def test_cancelling_gives_the_row_away(tiny_model, clips_and_queries, expected):
    engine_ = tiny_model.engine(slots=1, steps=2)
    futures = [
        engine_.submit(a, q, on_tokens=lambda _: None, **o) for a, q, o in zip(*clips_and_queries, MIXED, strict=True)
    ][:3]
    futures[0].cancel()  # in the queue
    engine_.step()
    assert engine_.active == 1
    assert futures[1].cancel()  # in its row
    engine_.run()
    assert futures[2].result().ids == expected[2]
    with pytest.raises(concurrent.futures.CancelledError):
        futures[1].result()
    late = engine_.submit(clips_and_queries[0][0], "What?", max_new_tokens=12, min_length=12)
    engine_.close()
    assert late.cancelled()


def test_a_failure_reaches_waiting_requests(tiny_model, clips_and_queries, expected, monkeypatch):
    def bad(_ids):
        raise ValueError("of the caller")

    with tiny_model.engine(slots=1) as engine_:
        first = engine_.submit(clips_and_queries[0][1], clips_and_queries[1][1], on_tokens=bad, **MIXED[1])
        second = engine_.submit(clips_and_queries[0][2], clips_and_queries[1][2], **MIXED[2])
        with pytest.raises(ValueError, match="of the caller"):
            first.result(timeout=120)
        assert second.result(timeout=120).ids == expected[2]
        with monkeypatch.context() as patch:

            def broken(*_, **__):
                raise RuntimeError("out of memory")

            patch.setattr(engine, "decode", broken)
            with pytest.raises(RuntimeError, match="out of memory"):
                engine_.submit(clips_and_queries[0][1], clips_and_queries[1][1], **MIXED[1]).result(timeout=120)
        assert (
            engine_.submit(clips_and_queries[0][2], clips_and_queries[1][2], **MIXED[2]).result(timeout=120).ids
            == expected[2]
        )
        with pytest.raises(UserError, match="no such file"):
            engine_.submit("nowhere.wav", "What is it?")
    for name in ("slots", "steps", "num_beams"):
        with pytest.raises(UserError, match=f"{name}=0: must be a whole number, at least 1"):
            tiny_model.engine(**{name: 0})


def test_an_engine_of_beams(tiny_model, clips_and_queries):
    audios, queries = clips_and_queries
    limits = [2, 12, 3, 9, 1, 12, 4]
    one_by_one = [
        tiny_model.generate([a], [q], n, 2, batch_size=1, return_ids=True)[0]
        for a, q, n in zip(audios, queries, limits, strict=True)
    ]
    assert tiny_model.generate(audios, queries, limits, 2, batch_size=4, return_ids=True) == one_by_one


def test_no_clip_and_no_question(tiny_model):
    assert tiny_model.generate([], []) == []
    assert len(tiny_model.generate([[]], ["Hello?"], 3, min_length=3, return_ids=True)[0]) == 3


def test_clips_of_different_length_share_a_batch(tiny_model, clips_and_queries):
    audios, queries = (
        [
            clips_and_queries[0][0],
            clips_and_queries[0][1][:12_000],
            [clips_and_queries[0][2][:12_000], clips_and_queries[0][3]],
        ],
        clips_and_queries[1][:3],
    )
    queries[2] = "<AudioHere> and <AudioHere>?"
    together = tiny_model.generate(audios, queries, 6, batch_size=4, return_ids=True)
    alone = [tiny_model.generate([a], [q], 6, return_ids=True)[0] for a, q in zip(audios, queries, strict=True)]
    assert together == alone


def test_a_clip_is_encoded_once_and_never_stale(make_tiny, clips_and_queries):
    """Counted; with other weights of the audio side the old vectors are gone, with another language model they stay."""
    model, (audios, queries) = make_tiny(), clips_and_queries
    cached_encodings = model.encodings
    first = model.generate([audios[0]] * 7, queries, 3, batch_size=4, return_ids=True)
    assert (cached_encodings.encoded, len(cached_encodings)) == (1, 1)
    assert model.generate([audios[0]] * 7, queries, 3, batch_size=4, return_ids=True) == first
    model.generate([audios[0][::-1]], queries[:1], 3)
    assert cached_encodings.encoded == 2
    sound = prompt(model.tokenizer, clips_of(audios[0], model.config.audio), "?", model.config).sounds[0]

    def vectors():
        return np.asarray(cached_encodings(model.graphdef, model.state, [sound], rows=1)[sound.key])

    def streamed():
        return np.asarray(model.encode_audio(audios[0][None]))[0]

    np.testing.assert_allclose(vectors(), streamed(), atol=1e-5)
    projection = model.state["audio_proj"]["kernel"]
    projection.set_value(projection.get_value() * -3)
    changed = vectors()
    np.testing.assert_allclose(changed, streamed(), atol=1e-5)
    assert np.abs(changed).max() > 0.1
    assert (cached_encodings.encoded, len(cached_encodings)) == (3, 1)
    projection.set_value(jnp.array(projection.get_value()))  # equal, yet another array: nothing is taken on trust
    vectors()
    assert cached_encodings.encoded == 4
    head = model.state["llama"]["lm_head"]["kernel"]
    head.set_value(jnp.flip(head.get_value(), 1))
    assert model.generate([audios[0]], queries[:1], 3, return_ids=True) != first[:1]
    assert cached_encodings.encoded == 4


def test_the_cache_of_clips_is_bounded(tiny_model, clips_and_queries):
    cfg = tiny_model.config
    sounds = [
        prompt(tiny_model.tokenizer, clips_of(a, cfg.audio), "?", cfg).sounds[0] for a in clips_and_queries[0][:4]
    ]
    small = Encodings(limit=1)
    hear = lambda some: small(tiny_model.graphdef, tiny_model.state, some, rows=4)  # noqa: E731
    assert len(hear(sounds)) == 4
    assert len(small) == 0
    size = next(iter(hear(sounds[:1]).values())).nbytes
    small = Encodings(limit=2 * size)
    hear(sounds[:1]), hear(sounds[1:2]), hear(sounds[:1]), hear(sounds[2:3])
    assert small.encoded == 3
    hear(sounds[:1])  # the one not heard for longest went
    assert small.encoded == 3
    hear(sounds[1:2])
    assert small.encoded == 4
    plain = jax.tree.map(np.asarray, tiny_model.state)  # numpy arrays may change in place
    for _ in range(2):
        small(tiny_model.graphdef, plain, sounds[:1], rows=4)
    assert small.encoded == 6
