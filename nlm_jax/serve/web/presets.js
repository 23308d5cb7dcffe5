// Questions by task, in the words the model was trained on.
export const PRESETS = [
  ["Species", [
    ["Common name", "What is the common name for the focal species in the audio?"],
    ["Scientific name", "What is the scientific name for the focal species in the audio?"],
    ["Taxonomic name", "What is the taxonomic name of the focal species in the audio?"],
    ["Genus", "What is the genus of the focal species in the audio?"],
    ["Family", "What is the family of the focal species in the audio?"],
    ["One of a list", "Which of these is the focal species in the audio? Options: …", "Put the species in the place of the dots."],
  ]],
  ["Detection", [
    ["All species, common names", "What are the common names for the species in the audio, if any?"],
    ["All species, scientific names", "What are the scientific names for the species in the audio, if any?"],
    ["Which of a list", "Which of these, if any, are present in the audio recording? …, None.", "Put the species in the place of the dots."],
    ["A bird or not", "Is there a bird vocalizing in this recording? Answer Yes or No."],
  ]],
  ["Caption", [
    ["With common names", "Caption the audio, using the common name for any animal species."],
    ["With scientific names", "Caption the audio, using the scientific name for any animal species."],
    ["In any words", "Caption the audio."],
  ]],
  ["Call type", [
    ["Call or song", "What type of vocalization is heard from the focal species in the audio? Answer with either 'call' or 'song'."],
    ["Call types", "What call types are heard from the focal species in the audio?"],
  ]],
  ["Life stage", [["Adult, juvenile or nestling", "What is the life stage of the focal species in the audio?"]]],
  ["Counting", [
    ["How many birds", "How many birds are vocalizing in the audio? Choose between 1, 2, 3 or 4."],
    ["How many species", "How many different species are vocalizing in the audio?"],
  ]],
  ["Free text", [["Your own question", ""]]],
];

/** Fills a select with the presets, grouped; option values are "group.number". */
export function fillPresets(select) {
  PRESETS.forEach(([group, questions], g) => {
    const heading = document.createElement("optgroup");
    heading.label = group;
    questions.forEach(([name], q) => heading.append(new Option(name, `${g}.${q}`)));
    select.append(heading);
  });
}

/** The question and the note of an option's value. */
export function preset(value) {
  const [group, number] = value.split(".").map(Number);
  const [, question, note] = PRESETS[group][1][number];
  return { question, note };
}
