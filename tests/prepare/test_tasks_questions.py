"""What is made from facts: shares, balance, independence of order, and odd facts. Answers are checked by lookup."""

import collections
import dataclasses
import itertools
import math
import random
import re

import pytest

from nlm_jax.core.errors import UserError
from nlm_jax.data.schema import Example
from nlm_jax.prepare.splits import recording
from nlm_jax.prepare.tasks import fields, templates
from nlm_jax.prepare.tasks.deterministic import Smallest, distinct, generator
from nlm_jax.prepare.tasks.generate import instruct, questions_about, side_of
from nlm_jax.prepare.tasks.negatives import Taxa
from nlm_jax.prepare.tasks.pools import Pools

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def word(*numbers: int) -> str:
    return "".join(LETTERS[n % 26] for n in numbers).capitalize()


def species(phylum: int, order: int, family: int, kind: int) -> dict[str, str]:
    """One of 8 x 2 x 3 x 5 species, its ranks read off its name."""
    genus = word(phylum, order, family, kind) + "us"
    ranks = {"phylum": word(phylum) + "phyla", "class": word(phylum) + "classa"}
    ranks |= {"order": word(phylum, order) + "formes", "family": word(phylum, order, family) + "idae"}
    return {"common_name": f"Beast {genus}", "scientific_name": f"{genus} minor", "genus": genus, **ranks}


SPECIES = [species(*at) for at in itertools.product(range(8), range(2), range(3), range(5))]
BY_NAME = {facts[kind]: facts for facts in SPECIES for kind in ("common_name", "scientific_name")}


def example(name: str, split: str = "train", **facts: str) -> Example:
    return Example(name, (f"{name}.wav",), "?", "!", "none", split=split, facts=facts)


ANIMALS = [example(f"r{k}", **SPECIES[k % 240]) for k in range(960)]
RECORDINGS = [example(f"r{k}", **SPECIES[k % 60], call_type="song") for k in range(480)]
"""Eight recordings of each of 60 species."""


def questions_of(tasks, examples, **options):
    return list(instruct(examples, options.pop("seed", 5), tasks, **options))


def share(hits: int, of: int, expected: float) -> bool:
    """Whether a share is within four standard deviations of what it should be."""
    return abs(hits - of * expected) < 4 * math.sqrt(of * expected * (1 - expected))


def listed(prompt: str) -> list[str]:
    return [name.strip() for name in re.split(r"[?:] ", prompt, maxsplit=1)[-1].split(",")]


def test_candidates_are_random_in_three_of_ten_and_relatives_otherwise():
    generated = questions_of("common-classification-options", ANIMALS)
    assert len(generated) == len(ANIMALS)
    random_lists, sizes = 0, set()
    for e in generated:
        options = re.findall(r"Beast \w+", e.prompt)
        assert e.text in options
        assert len(options) == len(set(options))
        assert 2 <= len(options) <= 36
        sizes.add(len(options))
        wrong, own = [BY_NAME[o] for o in options if o != e.text], BY_NAME[e.text]
        related = any(all(w[rank] == own[rank] for w in wrong) for rank in ("family", "order", "phylum"))
        random_lists += not related
    # A random list of k is all of one phylum by chance (1/8)^k: of counts 1 to 35, with relatives capped, about 0.4 %.
    assert share(random_lists, len(generated), 0.3 * (1 - 1 / 245))
    assert max(sizes) == 36


def test_hard_ones_share_family_order_or_phylum_in_equal_parts():
    taxa = Taxa()
    for facts in SPECIES:
        taxa.add(facts)
    own, totals = taxa.find(SPECIES[0]["common_name"]), collections.Counter()
    for k in range(450):
        names = taxa.negatives("common_name", own, (own.common_name,), 30, "hard", random.Random(k))
        sharing = [r for r in ("family", "order", "phylum") if all(BY_NAME[n][r] == SPECIES[0][r] for n in names)]
        totals[sharing[0]] += 1
    assert all(share(totals[rank], 450, 1 / 3) for rank in ("family", "order", "phylum"))


@pytest.mark.parametrize("style", ["common", "sci"])
def test_detection_leaves_the_right_one_out_of_half(style):
    kind = {"common": "common_name", "sci": "scientific_name"}[style]
    for how in ("random", "hard", "easy"):
        generated, absent = questions_of(f"{style}-detection-{how}", ANIMALS[:300]), 0
        assert len(generated) == 300
        for e in generated:
            options, own = listed(e.prompt), e.facts
            assert options[-1] == "None"
            wrong = [BY_NAME[o] for o in options[:-1] if o != own[kind]]
            assert 1 <= len(wrong) <= 35
            assert (own[kind] in options) == (e.text == own[kind])
            assert e.text in (own[kind], "None")
            absent += e.text == "None"
            if how == "hard":
                assert any(all(w[r] == own[r] for w in wrong) for r in ("family", "order", "phylum"))
            if how == "easy":
                assert all(w["order"] != own["order"] for w in wrong)
        assert share(absent, 300, 0.5), how


def test_species_in_the_background_are_right_answers_too():
    other = SPECIES[7]
    mixed = example("m", **SPECIES[0], others=f"{other['scientific_name'].upper()}, {SPECIES[0]['common_name']}")
    tasks = templates.load()
    pools = Pools.collect([*ANIMALS[:240], mixed], tasks.values())
    for seed in range(12):
        result = {e.task: e for e in questions_about(mixed, tasks, seed, None, pools)}
        both = [SPECIES[0]["common_name"], other["common_name"]]
        assert result["common-multiple-detection"].text == ", ".join(both)
        assert "common-simple-detection" not in result
        random_one = result["common-detection-random"]
        assert random_one.text in (", ".join(both), "None")
        if random_one.text == "None":
            assert not set(both) & set(listed(random_one.prompt))
        candidates = result["scientific-classification-options"].prompt
        assert other["scientific_name"] not in candidates, "heard, so no wrong answer"
        assert "compare-same-species" not in result, "more than one species"


def test_yes_and_no_are_balanced():
    sounds = [example(f"s{k}", sound=("rain", "wind", "Rain")[k % 3]) for k in range(600)]
    generated = questions_of("sound-presence", sounds)
    assert share(sum(e.text == "Yes" for e in generated), len(generated), 0.5)
    for e in generated:
        assert (e.facts["sound"].casefold() in e.prompt.casefold()) == (e.text == "Yes")


def test_a_question_depends_on_seed_and_id_alone():
    tasks = templates.load()
    some = [*RECORDINGS[:24], *(example(f"v{k}", speaker=f"s{k % 3}", pitch=str(200 + k)) for k in range(20))]
    whole = {e.id: e for e in questions_of(tasks, some)}
    shuffled = random.Random(1).sample(some, len(some))
    assert {e.id: e for e in questions_of(tasks, shuffled)} == whole
    pools = Pools.collect(shuffled, tasks.values())
    alone = questions_about(some[3], tasks, 5, None, pools)
    assert alone
    assert all(whole[e.id] == e for e in alone)
    fewer = {e.id: e for e in questions_of(tasks, some[:10])}  # other pools: the phrasing stays
    for e in fewer.values():
        phrasings = tasks[e.task].train
        which = [k for k, text in enumerate(phrasings) if e.prompt.startswith(text.partition("{")[0])]
        assert whole[e.id].prompt.startswith(phrasings[which[0]].partition("{")[0])
    other = {e.id: e.prompt for e in questions_of(tasks, some, seed=6)}
    assert sum(other.get(ident) == e.prompt for ident, e in whole.items()) < 0.5 * len(whole)


def test_phrasings_are_all_used_and_follow_the_split():
    tasks = templates.load()
    both = [example(f"r{k}", ("train", "valid", "test", "", "Validation", "xc-train")[k % 6], **SPECIES[0])
            for k in range(240)]  # fmt: skip
    seen = collections.defaultdict(set)
    for e in questions_of("common-classification", both):
        seen["test" if e.split.lower()[:4] in ("vali", "test") else "train"].add(e.prompt)
    assert seen["train"] == set(tasks["common-classification"].train)
    assert seen["test"] == set(tasks["common-classification"].test)
    forced = {e.prompt for e in questions_of("common-classification", both, split="test")}
    assert forced == set(tasks["common-classification"].test)
    assert [side_of(s) for s in ("val", "dev", "held-out", "eval", "training", "")] == ["test"] * 4 + ["train"] * 2


def test_context_drops_each_part_and_never_tells_the_answer():
    facts = {**SPECIES[0], "time": "05:40", "date": "2024-05-12", "place": "Kerzers", "country": "Switzerland"}
    animals = [example(f"r{k}", **facts, notes="in a hedge") for k in range(800)]
    generated = questions_of("common-classification-context", animals)
    for part, text in (("time", "2024-05-12, 05:40"), ("place", "Kerzers, Switzerland"), ("notes", "in a hedge")):
        # A half stay, and where all three would go (1/8) one of them stays.
        assert share(sum(text in e.prompt for e in generated), len(generated), 0.5 + 0.125 / 3), part
    assert all("{" not in e.prompt for e in generated)
    pair = example("t", **SPECIES[0], notes=f"a pair of {SPECIES[0]['common_name'].lower()}s")
    assert questions_of("common-classification-context", [pair]) == []
    long = example("l", **SPECIES[0], notes="rustle " * 200)
    assert len(questions_of("common-classification-context", [long])[0].prompt) < 300


def test_held_out_taxa_are_no_wrong_answers():
    hidden = {SPECIES[3]["scientific_name"].upper(), SPECIES[10]["genus"], SPECIES[20]["family"].lower()}
    out = {
        f["common_name"] for f in SPECIES if hidden & {f["scientific_name"].upper(), f["genus"], f["family"].lower()}
    }
    assert len(out) == 7
    tasks = "common-classification-options,common-detection-hard,species-presence,icl-presence,compare-contains"
    for held_out_names in (hidden, lambda e: e.facts["common_name"] in out):
        for e in questions_of(tasks, RECORDINGS[:180], held_out=held_out_names):
            own = e.facts["common_name"]
            assert not [name for name in out - {own} if f"{name}," in f"{e.prompt},".replace("\n", ",")]
            audible = {BY_RECORDING[path]["common_name"] for path in e.paths}
            assert not audible & out - {own}


BY_RECORDING = {e.paths[0]: e.facts for e in RECORDINGS}


def test_several_clips_their_answers_and_whence_they_come():
    animals = []
    for k, e in enumerate(RECORDINGS):
        file = e.id if k % 3 else f"long{k % 11}"
        animals.append(
            dataclasses.replace(e, split=("train", "valid")[k // 60 % 2], paths=(f"{file}.wav#t={k},{k + 1}",))
        )
    facts = {e.paths[0]: (e.facts, recording(e), e.split) for e in animals}
    answers = collections.defaultdict(collections.Counter)
    names = "icl-classification,icl-presence,compare-same-species,compare-odd-one-out,compare-match*,compare-contains"
    for e in questions_of(names, animals, max_clips=6):
        assert len(e.paths) == e.prompt.count("<Audio><AudioHere></Audio>") <= 6
        assert len({facts[p][1] for p in e.paths}) == len(e.paths), "two clips of one recording"
        assert {facts[p][2] for p in e.paths} == {e.split}, "clips of another split"
        kind = "scientific_name" if " minor" in e.prompt + e.text else "common_name"
        labels = [facts[p][0]["common_name"] for p in e.paths]
        if e.task == "icl-classification":
            lines = re.findall(r"</Audio> ((?:Beast )?\w+us(?: minor)?)$", e.prompt, re.MULTILINE)
            query = e.paths[-1]
            assert [facts[p][0][kind] for p in e.paths[:-1]] == lines
            assert e.text == facts[query][0][kind]
            assert len(set(collections.Counter(lines).values())) == 1, "as many examples of each label"
            instruction = re.sub(r"</Audio> (Beast )?\w+us( minor)?$", "", e.prompt, flags=re.MULTILINE)
            options = re.findall(r"\b(?:Beast \w+us|\w+us minor)\b", instruction)
            assert sorted(options) == sorted({*lines})
            answers[e.task, len(options)][options.index(e.text)] += 1
        elif e.task == "icl-presence":
            right = [k for k, label in enumerate(labels[:-1]) if label == labels[-1]]
            assert e.text == ("ABCDEF"[right[0]] if right else "None")
            answers[e.task, "None"][e.text == "None"] += 1
        elif e.task == "compare-same-species":
            assert e.text == ("Yes" if labels[0] == labels[1] else "No")
            answers[e.task, "Yes"][e.text == "Yes"] += 1
        elif e.task == "compare-odd-one-out":
            odd = [k for k, label in enumerate(labels) if labels.count(label) == 1]
            assert e.text == "ABCD"[odd[0]]
            assert len(odd) == 1
            answers[e.task, len(labels)][e.text] += 1
        elif e.task == "compare-match-to-sample":
            assert [k for k, label in enumerate(labels[1:]) if label == labels[0]] == ["ABCD".index(e.text)]
            answers[e.task, len(labels)][e.text] += 1
        elif e.task == "compare-contains":
            named = [k for k, p in enumerate(e.paths) if facts[p][0][kind] in e.prompt]
            assert named == ["ABCD".index(e.text)]
            answers[e.task, len(labels)][e.text] += 1
    assert {task for task, _ in answers} >= {f"compare-{k}" for k in ("odd-one-out", "contains", "match-to-sample")}
    for (task, size), counts in answers.items():
        total, ways = sum(counts.values()), {"compare-match-to-sample": -1}.get(task, 0)
        expected = 0.5 if isinstance(size, str) else 1 / (size + ways)
        assert total > 90, (task, size)
        for answer, count in counts.items():
            assert share(count, total, expected), (task, size, answer, count, total)


def test_counts_and_pitches_are_compared_by_value():
    numbers = {f"n{k}.wav": {"individuals": str(k % 5 + 1), "pitch": f"MIDI {40 + k % 30}"} for k in range(100)}
    examples = [example(path.removesuffix(".wav"), **facts) for path, facts in numbers.items()]
    generated = questions_of("compare-more-individuals,compare-pitch-order", examples)
    assert len(generated) == 200
    for e in generated:
        facts = [numbers[p] for p in e.paths]
        if e.task == "compare-more-individuals":
            counts = [int(f["individuals"]) for f in facts]
            assert counts["ABC".index(e.text)] == max(counts)
            assert counts.count(max(counts)) == 1
        else:
            notes = [int(f["pitch"].split()[1]) for f in facts]
            rising = "from lowest to highest" in e.prompt
            assert [notes["ABCD".index(x)] for x in e.text.split(", ")] == sorted(notes, reverse=not rising)
            assert len(set(notes)) == len(notes)
    rising = sum("from lowest to highest" in e.prompt for e in generated)
    assert share(rising, 100, 0.5)


def test_no_comparison_where_one_answer_alone_is_possible():
    """One recording of each species: whether two are of the same one could only be answered with No."""
    assert questions_of("compare-same-species,compare-odd-one-out,compare-match-to-sample,icl-*", ANIMALS[:60]) == []
    one = [example(f"r{k}", **SPECIES[0]) for k in range(20)]
    assert questions_of("compare-*,icl-*,common-*-options,*detection-*", one) == []
    tight = questions_of("icl-classification,compare-odd-one-out", RECORDINGS[:120], max_clips=2)
    assert tight == []


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"scientific_name": "TURDUS MERULA"}, {"scientific_name": "Turdus merula", "genus": "Turdus"}),
        ({"species": "Corvus corax principalis"}, {"scientific_name": "Corvus corax"}),
        ({"species": "corax", "genus": "corvus"}, {"scientific_name": "Corvus corax", "genus": "Corvus"}),
        ({"scientific_name": "Parus major (Linnaeus, 1758)"}, {"scientific_name": "Parus major"}),
        ({"scientific_name": "Corvus sp.", "genus": "Corvus"}, {"scientific_name": None, "genus": "Corvus"}),
        ({"subspecies": "Junco hyemalis montanus"}, {"scientific_name": "Junco hyemalis"}),
        ({"scientific_name": "  ", "common_name": "nan"}, {"scientific_name": None, "common_name": None}),
        ({"common_name": "Rüppell\u2019s Warbler"}, {"species": "Rüppell’s Warbler"}),
        ({"common_name": "Ru\u0308ppell Fox"}, {"common_name": "Rüppell Fox"}),
        ({"common_name": "Bird <AudioHere><|eot_id|>"}, {"common_name": "Bird"}),
        ({"scientific_name": "Bufo bufo", "common_name": "bufo bufo"}, {"common_name": None, "species": "Bufo bufo"}),
        ({"individuals": "1"}, {"one_or_more": "One", "individuals": "1"}),
        ({"individuals": "three"}, {"one_or_more": "More", "individuals": "3"}),
        ({"individuals": "More"}, {"one_or_more": "More", "individuals": None}),
        ({"individuals": "0"}, {"one_or_more": None, "individuals": None}),
        ({"call_type": "Alarm Call, flight call"}, {"call_or_song": "call", "call_type": "alarm call, flight call"}),
        ({"call_type": "song, call"}, {"call_or_song": None}),
        ({"call_type": "drumming"}, {"call_or_song": None, "call_type": "drumming"}),
        ({"call_type": "subsong"}, {"call_or_song": "song"}),
        ({"pitch": "440"}, {"pitch": "440 Hz"}),
        ({"pitch": "60"}, {"pitch": "261.6 Hz"}),
        ({"pitch": "60 Hz"}, {"pitch": "60 Hz"}),
        ({"pitch": "60.5"}, {"pitch": "60.5 Hz"}),
        ({"pitch": "MIDI 60"}, {"pitch": "261.6 Hz"}),
        ({"pitch": "C#4"}, {"pitch": "277.2 Hz"}),
        ({"pitch": "high"}, {"pitch": None}),
        ({"velocity": "127"}, {"velocity": "1.00"}),
        ({"velocity": "0.5"}, {"velocity": "0.50"}),
        ({"velocity": "-3"}, {"velocity": None}),
        ({"quality": "bright,dark,fast_decay"}, {"qualities": "The sound is bright, dark and fast decay."}),
        ({"instrument": "organ, guitar"}, {"instruments": "2"}),
        ({"class": "AVES"}, {"class": "Aves", "group": "bird"}),
        ({"common_name": "Alpine Swift"}, {"a_common_name": "an Alpine Swift"}),
        ({"common_name": "Eurasian Wren"}, {"a_common_name": "a Eurasian Wren"}),
        ({"caption": "one two three four five six seven eight"}, {"rich_caption": None}),
        ({"caption": "1 2 3 4 5 6 7 8 9"}, {"rich_caption": "1 2 3 4 5 6 7 8 9"}),
        (
            {"caption": "A common toad calls.", "common_name": "Common Toad", "scientific_name": "Bufo bufo"},
            {"caption_common": "A common toad calls.", "caption_scientific": "A Bufo bufo calls."},
        ),
        ({"caption": "Rain falls.", "common_name": "Common Toad"}, {"caption_common": None, "caption": "Rain falls."}),
        ({**SPECIES[0], "order": ""}, {"taxonomic_name": None, "family": SPECIES[0]["family"]}),
        (SPECIES[0], {"taxonomic_name": "Aphyla Aclassa Aaformes Aaaidae Aaaaus minor"}),
    ],
)
def test_facts_in_order(facts, expected):
    field_values = fields.fields(facts)
    assert {key: field_values.get(key) for key in expected} == expected


def test_a_task_without_its_facts_is_skipped():
    bare = [example("a", genus="Corvus"), example("b", notes="?"), example("c"), example("d", common_name="Owl, Barn")]
    result = collections.defaultdict(set)
    for e in questions_of("all", bare):
        result[e.id[0]].add(e.task)
    assert result["a"] == {"genus-classification"}
    assert not result["b"]
    assert not result["c"]
    assert "common-classification" in result["d"]
    assert not {t for t in result["d"] if "options" in t or "detection-" in t}, "a comma would split a list"
    two = dataclasses.replace(ANIMALS[0], paths=("a.wav", "b.wav"))
    assert questions_of("all", [two]) == []


def test_so_many_tasks_per_recording_and_all_of_them_in_turn():
    several = questions_of("all", RECORDINGS[:40], per_recording=3)
    assert collections.Counter(collections.Counter(e.id.partition("@")[0] for e in several).values()) == {3: 40}
    every = {e.id: e for e in questions_of("all", RECORDINGS[:40])}
    assert all(every[e.id] == e for e in several)
    assert {e.task for e in several} == {e.task for e in every.values()}
    assert len(set(every)) == len(questions_of("all", iter(RECORDINGS[:40]))), "an iterator, and ids without repeats"
    for bad in ({"per_recording": -1}, {"max_clips": 0}):
        with pytest.raises(UserError, match="at least"):
            instruct(ANIMALS, 0, "all", **bad)
    with pytest.raises(UserError, match="no task 'x'"):
        instruct(ANIMALS, 0, "x")


def test_bounded_pools_do_not_depend_on_the_order():
    names = [f"name{k}" for k in range(500)]
    selected = []
    for order in (names, names[::-1], random.Random(0).sample(names, 500) * 2):
        sample = Smallest(20, list)
        for name in order:
            if (entry := sample.at(name)) is not None:
                entry.append(1)
        selected.append([key for key, _ in sample.items()])
        assert len(sample) == 20
    assert selected[0] == selected[1] == selected[2]
    small = Taxa(capacity=10)
    for facts in SPECIES:
        small.add(facts)
    assert len(small) == 10


def test_draws_are_distinct_and_even():
    counts = collections.Counter()
    for k in range(1000):
        result = distinct(range(1000), 3, generator(k, "x"), lambda n: n % 2 == 1)
        assert len(set(result)) == 3
        counts.update(n // 100 for n in result)
    assert all(share(counts[n], 3000, 0.1) for n in range(10))
    assert sorted(distinct(range(5), 9, generator(0), lambda n: n == 2)) == [0, 1, 3, 4]
