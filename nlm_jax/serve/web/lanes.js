// Answers below the spectrogram: a lane for each question, a colour for each answer.
import { merged, nothing } from "./labels.js";
import { alive } from "./recording.js";
import { seconds } from "./times.js";

const hues = new Map();

/** A colour for an answer: the same for the same text, as far from the others as can be. */
export function colour(text) {
  if (nothing(text)) return "#8b8a97";
  if (!hues.has(text)) hues.set(text, (165 + hues.size * 137.5) % 360);
  return `hsl(${hues.get(text)} 62% 68%)`;
}

function block(view, { start, end, text, className, title }) {
  if (end <= view.from || start >= view.to) return null;
  const element = document.createElement("span"), left = Math.max(0, view.x(start)), width = view.root.clientWidth;
  element.style.left = `${left}px`;
  element.style.width = `${Math.max(2, Math.min(width, view.x(end)) - left)}px`;
  if (!className) element.style.background = colour(text);
  element.className = className;
  element.textContent = text || "–";
  element.title = `${seconds(start)} – ${seconds(end)}: ${title ?? text}`;
  return element;
}

function lane(title, blocks) {
  const element = document.createElement("div");
  element.className = "lane";
  element.title = title;
  element.append(...blocks.filter(Boolean));
  return element;
}

/** Draws the lanes of a recording's runs and marks. A label that the next one overlaps is cut there, so that each is visible. */
export function lanes(root, view, recording) {
  const elements = [];
  if (recording.marks.length) {
    elements.push(lane("marked regions", recording.marks.map((mark) => block(view, { ...mark, className: "mark", text: mark.text || "marked" }))));
  }
  for (const run of recording.runs) {
    const labels = merged(alive(run)).filter((label) => label.status !== "not asked");
    if (!labels.length) continue;
    elements.push(lane(run.query, labels.map((label, i) => {
      const next = labels[i + 1]?.start ?? Infinity, end = next > label.start ? Math.min(label.end, next) : label.end;
      const failed = label.status === "failed";
      return block(view, { ...label, end, className: failed ? "failed" : nothing(label.text) ? "none" : "", text: failed ? "✕" : label.text, title: failed ? label.reason : label.text });
    })));
  }
  root.replaceChildren(...elements);
}
