"""Metadata of archives and tables of captions become questions, and facts about their recordings."""

import json

import numpy as np
import pytest
import soundfile

from nlm_jax.core.errors import UserError
from nlm_jax.data.dataset import Corpus
from nlm_jax.prepare.options import PrepareOptions
from nlm_jax.prepare.pipeline import prepare
from nlm_jax.prepare.readers import recording_facts, registry

COMMON = "What is the common name for the focal species in the audio?"
SCIENTIFIC = "What is the scientific name for the focal species in the audio?"


def sound(file, value=0.25):
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, np.full(4000, value), 16_000)


def rejected(out):
    return {r["file"]: r["reason"] for r in map(json.loads, (out / "rejects.jsonl").read_text().splitlines())}


# Xeno-canto.

RAVEN = {
    "id": "123", "gen": "Corvus", "sp": "corax", "ssp": "varius", "group": "birds", "en": "Northern Raven",
    "rec": "A. Nyman", "cnt": "Sweden", "loc": "Uppsala", "lat": "59.8", "lng": "17.6", "alt": "20",
    "type": "flight call, song", "sex": "male", "stage": "adult", "method": "field recording",
    "url": "//xeno-canto.org/123", "file": "https://xeno-canto.org/123/download", "file-name": "XC123-raven.mp3",
    "sono": {"small": "x"}, "osci": {"small": "x"}, "lic": "//creativecommons.org/licenses/by-nc-sa/4.0/", "q": "A",
    "length": "0:14", "time": "06:30", "date": "2024-04-01", "uploaded": "2024-04-02", "also": ["Pica pica", ""],
    "rmk": "A pair, close", "animal-seen": "yes", "smp": "48000",
}  # fmt: skip
OLDER = {**RAVEN, "id": "7", "en": "", "type": "female, juvenile, call", "file-name": "", "also": [""], "lic": ""}
OLDER = {k: v for k, v in OLDER.items() if k not in ("sex", "stage", "method", "rmk", "ssp")}


@pytest.fixture
def archive(tmp_path):
    """Three recordings, one of which has no audio, and one that nobody could name."""
    sound(tmp_path / "deep" / "XC123.wav", 0.25)
    sound(tmp_path / "XC7 - Northern Raven - Corvus corax.wav", 0.5)
    sound(tmp_path / "XC70.wav", 0.75)
    lost = {**RAVEN, "id": "9", "file-name": "XC9-lost.mp3"}
    unknown = {**RAVEN, "id": "70", "gen": "Mystery", "sp": "mystery", "en": "Identity unknown"}
    return tmp_path, [RAVEN, OLDER, lost, unknown]


@pytest.mark.parametrize("shape", ["page", "pages", "rows", "csv", "folder"])
def test_xeno_canto(archive, shape, tmp_path_factory):
    folder, rows = archive
    page = {"numRecordings": str(len(rows)), "page": 1, "numPages": 1, "recordings": rows}
    file = folder / "ravens.json"
    if shape == "page":
        file.write_text(json.dumps(page), encoding="utf-8")
    elif shape == "pages":
        pages = [{**page, "recordings": rows[:2]}, {**page, "recordings": rows[1:]}]  # one is on both
        file.write_text(json.dumps(pages, indent=1), encoding="utf-8")
    elif shape == "rows":
        file = folder / "ravens.jsonl"
        file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    elif shape == "csv":
        file = folder / "ravens.csv"
        names = list(RAVEN)
        cells = [[str(one.get(name, "")) for name in names] for one in rows]
        quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [names, *cells]]
        file.write_text("\ufeff" + "\n".join(quoted) + "\n", encoding="utf-8")
    else:
        (folder / "metadata").mkdir()
        (folder / "metadata" / "page1.json").write_text(json.dumps(page), encoding="utf-8")
        file = folder
    first, second, _ = registry.read(file)
    assert (first.id, first.paths, first.prompt, first.text) == (
        "XC123", ("deep/XC123.wav",), COMMON, "Northern Raven")  # fmt: skip
    assert (first.licence, first.domain, first.label) == ("CC BY-NC-SA 4.0", "Xeno-canto", "Northern Raven")
    assert first.facts == {
        "common_name": "Northern Raven", "scientific_name": "Corvus corax", "genus": "Corvus",
        "species": "Corvus corax", "subspecies": "varius", "others": "Pica pica", "call_type": "flight call, song",
        "life_stage": "adult", "sex": "male", "place": "Uppsala", "country": "Sweden", "time": "06:30",
        "date": "2024-04-01", "notes": "A pair, close", "recordist": "A. Nyman", "url": "https://xeno-canto.org/123",
    }  # fmt: skip
    assert (second.prompt, second.text, second.licence) == (SCIENTIFIC, "Corvus corax", "unknown")
    assert second.paths == ("XC7 - Northern Raven - Corvus corax.wav",)
    metadata = {name: second.facts[name] for name in ("sex", "life_stage", "call_type")}
    assert metadata == {"sex": "female", "life_stage": "juvenile", "call_type": "call"}
    assert "others" not in second.facts
    out = tmp_path_factory.mktemp("out") / "o"
    assert prepare(PrepareOptions(file, out))["examples"] == 2
    assert list(rejected(out)) == ["XC9-lost.mp3"]
    assert [round(float(Corpus([out]).clip(e, 0)[0]), 2) for e in range(2)] == [0.25, 0.5]


def test_xeno_canto_with_another_audio_root(archive, tmp_path_factory):
    folder, rows = archive
    file = tmp_path_factory.mktemp("elsewhere") / "x.json"
    file.write_text(json.dumps({"recordings": rows}))
    assert prepare(PrepareOptions(file, file.parent / "out", audio_root=folder))["clips"] == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{**RAVEN, "id": ""}], r"x\.json:1: recordings\[0\]: no 'id'; xeno-canto gives"),
        ([RAVEN, {**RAVEN, "en": "Crow"}], r"recordings\[1\]: id 'XC123' is that of .*recordings\[0\] as well"),
        ([{"gen": "", "sp": "", "id": "1"}], "no 'gen'"),
        ([{"gen": "Mystery", "sp": "mystery", "id": "1"}], "no row says what is heard"),
        ([RAVEN, 3], "recordings must be a list of objects"),
    ],
)
def test_bad_xeno_canto(tmp_path, rows, message):
    (tmp_path / "x.json").write_text(json.dumps({"recordings": rows}))
    with pytest.raises(UserError, match=message):
        list(registry.read(tmp_path / "x.json", "xeno-canto"))


# Darwin Core and iNaturalist.

OCCURRENCES = (
    "gbifID\tbasisOfRecord\tscientificName\tvernacularName\tkingdom\tphylum\tclass\torder\tfamily\tgenus\tspecies\t"
    "specificEpithet\ttaxonRank\tlifeStage\tsex\tlicense\trecordedBy\teventDate\tlocality\tcountry\t"
    "decimalLatitude\tdecimalLongitude\tindividualCount\toccurrenceRemarks\n"
    'a1\tHUMAN_OBSERVATION\tHyla arborea (Linnaeus, 1758)\t"European" Tree Frog\tAnimalia\tChordata\tAmphibia\tAnura\t'
    "Hylidae\tHyla\tHyla arborea\tarborea\tSPECIES\tadult\tmale\thttp://creativecommons.org/publicdomain/zero/1.0/"
    'legalcode\tE. Berg\t2020-05-01\tPond\tPoland\t1\t2\t3\tsaid "loud\n'
    "a2\tHUMAN_OBSERVATION\tHyla Laurenti, 1768\t\tAnimalia\tChordata\tAmphibia\tAnura\tHylidae\tHyla\t\t\tGENUS\t\t\t"
    "CC_BY_NC_4_0\tE. Berg\t\t\t\t52.1\t20.5\t\t\n"
    "a3\tHUMAN_OBSERVATION\tRana temporaria Linnaeus, 1758\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\t\n"
)
MULTIMEDIA = (
    "gbifID\ttype\tformat\tidentifier\n"
    "a1\tSound\taudio/mpeg\thttps://host/sounds/11.wav?178\na1\tStillImage\timage/jpeg\thttps://host/p/1.jpg\n"
    "a2\tSound\taudio/mpeg\thttps://host/sounds/21.wav\na2\t\t\thttps://host/sounds/22.wav\n"
    "a3\tStillImage\timage/jpeg\thttps://host/p/3.jpg\n"
)


def test_a_darwin_core_archive(tmp_path, caplog):
    folder = tmp_path / "archive"
    sound(folder / "media" / "11.wav", 0.25)
    sound(folder / "21.wav", 0.5)
    sound(folder / "22.wav", 0.75)
    (folder / "occurrence.txt").write_text(OCCURRENCES, encoding="utf-8")
    (folder / "multimedia.txt").write_text(MULTIMEDIA, encoding="utf-8")
    (folder / "meta.xml").write_text("<archive/>")
    (folder / "verbatim.txt").write_text(OCCURRENCES.replace("individualCount", "verbatimCount"), encoding="utf-8")
    first, second, third = registry.read(folder)
    assert "1 occurrences have no sound" in caplog.text
    assert (first.id, first.paths, first.text) == ("a1", ("media/11.wav",), '"European" Tree Frog')
    assert (first.licence, first.domain) == ("CC0 1.0", "Darwin Core")
    assert first.facts == {
        "common_name": '"European" Tree Frog', "scientific_name": "Hyla arborea", "phylum": "Chordata",
        "class": "Amphibia", "order": "Anura", "family": "Hylidae", "genus": "Hyla", "species": "Hyla arborea",
        "life_stage": "adult", "sex": "male", "individuals": "3", "place": "Pond", "country": "Poland",
        "date": "2020-05-01", "notes": 'said "loud', "recordist": "E. Berg",
    }  # fmt: skip
    assert [(e.id, e.paths, e.text) for e in (second, third)] == [
        ("a2#0", ("21.wav",), "Hyla"), ("a2#1", ("22.wav",), "Hyla")]  # fmt: skip
    assert (second.prompt, second.licence) == ("What is the genus of the focal species in the audio?", "CC BY-NC 4.0")
    assert second.facts["place"] == "52.1, 20.5"
    assert "species" not in second.facts
    assert prepare(PrepareOptions(folder, tmp_path / "out"))["clips"] == 3
    assert [round(float(Corpus([tmp_path / "out"]).clip(e, 0)[0]), 2) for e in range(3)] == [0.25, 0.5, 0.75]


def test_a_table_of_occurrences_alone(tmp_path):
    """Links in the table itself, and recordings named by the id of their occurrence."""
    sound(tmp_path / "one.wav")
    sound(tmp_path / "2.wav")
    lines = "occurrenceID;genus;specificEpithet;associatedMedia\n1;Corvus;corax;https://h/i.jpg | https://h/one.wav\n"
    (tmp_path / "occurrence.csv").write_text(lines + "2;Corvus;corone;\n3;Pica;pica;https://h/three.mp3\n")
    assert [(e.id, e.paths[0], e.text) for e in registry.read(tmp_path / "occurrence.csv")] == [
        ("1", "one.wav", "Corvus corax"), ("2", "2.wav", "Corvus corone"), ("3", "three.mp3", "Pica pica")]  # fmt: skip
    assert prepare(PrepareOptions(tmp_path / "occurrence.csv", tmp_path / "out"))["rejected"]["clips"] == 1
    (tmp_path / "occurrence.csv").write_text("occurrenceID,genus\nx,Corvus\n")
    with pytest.raises(UserError, match=r"occurrence\.csv: no occurrence has a sound; give its file in a column"):
        list(registry.read(tmp_path / "occurrence.csv"))
    (tmp_path / "occurrence.csv").write_text("occurrenceID,genus,file\n1,Corvus,a.wav\n1,Pica,b.wav\n")
    with pytest.raises(UserError, match=r"occurrence\.csv:3: id '1' is that of .*occurrence\.csv:2 as well"):
        list(registry.read(tmp_path / "occurrence.csv"))
    (tmp_path / "x.csv").write_text("name,what\n1,2\n")
    with pytest.raises(UserError, match="no occurrences; they have scientificName and one of"):
        list(registry.read(tmp_path / "x.csv", "darwin-core"))


def test_the_export_of_inaturalist(tmp_path, tmp_path_factory):
    header = "id,uuid,observed_on,user_login,license,url,image_url,sound_url,place_guess,scientific_name,common_name,"
    header += "iconic_taxon_name,taxon_order_name,taxon_family_name,taxon_genus_name,taxon_species_name\n"
    sounds = "https://static.inaturalist.org/sounds/55.m4a?1"
    line = f"10,u-u,2023-06-01,ana,CC-BY-NC,https://www.inaturalist.org/observations/10,,{sounds},"
    line += '"Kraków, Poland",Pica pica,Eurasian Magpie,Aves,Passeriformes,Corvidae,Pica,Pica pica\n'
    (tmp_path / "observations-1.csv").write_text(header + line, encoding="utf-8")
    sound(tmp_path / "55.wav")  # converted, as m4a is not readable
    (one,) = registry.read(tmp_path / "observations-1.csv")
    assert (one.id, one.paths, one.text) == ("10", ("55.wav",), "Eurasian Magpie")
    assert (one.licence, one.domain) == ("CC BY-NC", "iNaturalist")
    expected = {"order": "Passeriformes", "species": "Pica pica", "recordist": "ana", "place": "Kraków, Poland"}
    assert expected.items() <= one.facts.items()
    assert (one.facts["date"], one.facts["url"]) == ("2023-06-01", "https://www.inaturalist.org/observations/10")
    assert list(registry.read(tmp_path, "inaturalist")) == [one]
    (tmp_path / "observations-2.csv").write_text(header + line.replace("10,u-u", "12,v-v"), encoding="utf-8")
    assert [e.id for e in registry.read(tmp_path)] == ["10", "12"]
    assert prepare(PrepareOptions(tmp_path, tmp_path_factory.mktemp("out") / "o"))["clips"] == 1


# Captions.


@pytest.mark.parametrize("shape", ["csv", "jsonl"])
def test_animalspeak(tmp_path, shape):
    rows = [
        {"audio_path": "gs://b/1.wav", "audio_path_16KHz": "16/1.wav", "caption": "A raven, calling",
         "caption2": "Croaks in the woods", "species_scientific": "Corvus corax", "species_common": "Northern Raven",
         "source": "Xeno-canto", "license": "CC BY 4.0"},
        {"audio_path": "2.wav", "audio_path_16KHz": "", "caption": "", "caption2": "", "source": "Watkins",
         "species_scientific": "Orcinus orca", "species_common": "Killer Whale", "license": ""},
        {"audio_path": "3.wav", "audio_path_16KHz": "", "caption": "", "caption2": "", "source": "",
         "species_scientific": "", "species_common": "", "license": ""},
    ]  # fmt: skip
    file = tmp_path / f"animalspeak.{shape}"
    if shape == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        file.write_text(
            "\n".join([",".join(rows[0]), *(",".join(f'"{r[name]}"' for name in rows[0]) for r in rows)]) + "\n"
        )
    for name in ("16/1.wav", "2.wav"):
        sound(tmp_path / name)
    one, two, three = registry.read(file)
    assert [(e.id, e.task, e.prompt, e.text) for e in (one, two)] == [
        ("16/1.wav#0", "caption", "Caption the audio.", "A raven, calling"),
        ("16/1.wav#1", "caption", "Caption the audio.", "Croaks in the woods"),
    ]
    names = {"common_name": "Northern Raven", "scientific_name": "Corvus corax"}
    assert two.facts == {**names, "genus": "Corvus", "species": "Corvus corax", "caption": "Croaks in the woods"}
    assert (one.paths, one.licence, one.domain) == (("16/1.wav",), "CC BY 4.0", "Xeno-canto")
    assert (three.task, three.text, three.paths) == ("common-name", "Killer Whale", ("2.wav",))
    manifest = prepare(PrepareOptions(file, tmp_path / "out"))
    assert (manifest["examples"], manifest["clips"]) == (3, 2)


def test_a_folder_of_captions(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}_v2.csv").write_text(f"audio_path,caption\n{split}.wav,A wren\n")
    assert [(e.split, e.text, e.paths[0]) for e in registry.read(tmp_path)] == [
        ("train", "A wren", "train.wav"), ("validation", "A wren", "validation.wav")]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("local_path,caption\n,A wren\n", r"x\.csv:2: no path of the audio; name its column one of"),
        ("local_path,caption\na.wav,\n", "no row says what is heard; have a column label, caption"),
        ("id,path,caption\n1,a.wav,x\n1,b.wav,y\n", r"x\.csv:3: id '1' is that of .*x\.csv:2 as well"),
        ("path,caption\na.wav,one,two\n", r"x\.csv:2: more cells than the header"),
    ],
)
def test_bad_captions(tmp_path, content, message):
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(UserError, match=message):
        list(registry.read(tmp_path / "x.csv"))


def test_empty_tables(tmp_path):
    for name, header in (
        ("a.csv", "path,caption"), ("b.csv", "id,gen,sp"), ("c.csv", "occurrenceID,scientificName,file"),
        ("d.csv", "file,label"), ("metadata.csv", "file_name,label"),
    ):  # fmt: skip
        (tmp_path / name).write_text(header + "\n")
        with pytest.raises(UserError, match=f"{name}: holds no examples; check"):
            prepare(PrepareOptions(tmp_path / name, tmp_path / "out"))


def test_labels_with_semicolons_and_a_mark(tmp_path):
    """As a spreadsheet saves them where the comma is the decimal sign."""
    lines = "\ufefffile;label;start;end;call type;license\na.wav;Wren;0,5;1,5;song;cc-by-sa 4.0\n"
    (tmp_path / "labels.csv").write_text(lines, encoding="utf-8")
    for path in (tmp_path, tmp_path / "labels.csv"):
        (one,) = registry.read(path)
        assert (one.paths, one.label, one.licence) == (("a.wav#t=0.5,1.5",), "Wren", "CC BY-SA 4.0")
        assert one.facts == {"call_type": "song"}


def test_json_with_a_mark(tmp_path):
    line = json.dumps({"path": "a.wav", "prompt": "p", "text": "t", "task": "k"})
    (tmp_path / "x.jsonl").write_text("\ufeff" + line + "\n", encoding="utf-8")
    assert [e.text for e in registry.read(tmp_path / "x.jsonl")] == ["t"]


def test_annotations_with_facts(tmp_path):
    """Columns of a manifest or of official lines, and an object with the names of facts."""
    row = {"path": "a.wav", "prompt": "p", "text": "t", "task": "k", "common_name": "Cat", "class": "dog"}
    lineage = {"taxonomy": "Chordata Mammalia Carnivora Felidae Felis catus", "extra_tasks": []}
    rows = [row, {**row, **lineage}, {**row, "facts": {"life_stage": "adult", "colour": "red", "common_name": "Lynx"}}]
    expected = [
        {"common_name": "Cat"},
        {"common_name": "Cat", "phylum": "Chordata", "class": "Mammalia", "order": "Carnivora", "family": "Felidae",
         "genus": "Felis", "species": "Felis catus", "scientific_name": "Felis catus"},
        {"common_name": "Lynx", "life_stage": "adult"},
    ]  # fmt: skip
    for one, facts in zip(rows, expected, strict=True):
        (tmp_path / "x.jsonl").write_text(json.dumps(one))
        (example,) = registry.read(tmp_path / "x.jsonl")
        assert example.facts == facts


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("//creativecommons.org/licenses/by-nc-sa/4.0/", "CC BY-NC-SA 4.0"),
        ("https://creativecommons.org/licenses/by/3.0/us/", "CC BY 3.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/legalcode", "CC0 1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "Public Domain Mark 1.0"),
        ("CC_BY_NC_4_0", "CC BY-NC 4.0"),
        ("cc-by-nc", "CC BY-NC"),
        ("CC0", "CC0"),
        ("CC0_1_0", "CC0 1.0"),
        ("CC BY-NC", "CC BY-NC"),
        ("free for personal/academic uses", "free for personal/academic uses"),
        ("", "unknown"),
    ],
)
def test_names_of_licences(spelling, name):
    assert recording_facts.licence(spelling) == name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Corvus corax Linnaeus, 1758", "Corvus corax"),
        ("Hyla arborea (Linnaeus, 1758)", "Hyla arborea"),
        ("Corvus corax subsp. varius Brünnich, 1764", "Corvus corax varius"),
        ("Corvus Linnaeus, 1758", ""),
        ("Corvus sp.", ""),
        ("Setophaga auduboni de Something", "Setophaga auduboni"),
        ("", ""),
    ],
)
def test_names_of_species(spelling, name):
    assert recording_facts.without_author(spelling) == name
