// Asks the server about the picture and the labels, and shows how well each label fits.

import { bytes, drawing } from "./draw.js";
import { $, GONE, chosen, later, make, problem } from "./page.js";
import { showExplanation } from "./why.js";

// ------------------------------------------------------------------------------------------ the server

let asking = false;
let again = false;
let timer = null;

/** The picture or the labels changed: ask soon. While the server computes, changes wait for the next question. */
export function changed(wait = 60) {
  timer ??= setTimeout(async () => {
    timer = null;
    again = true;
    if (asking) return;
    asking = true;
    while (again) {
      again = false;
      await ask().catch((error) => problem(error.message));
    }
    asking = false;
  }, wait);
}

async function ask() {
  const labels = $("labels").value.split("\n").map((label) => label.trim()).filter(Boolean);
  const missing = drawing.empty ? "Draw something, or take the example." : labels.length ? "" : "Type at least one label.";
  if (missing) {
    $("answer").hidden = $("why").hidden = true;
    $("notes").replaceChildren();
    problem(drawing.empty ? "" : missing);
    return say(drawing.empty ? missing : "");
  }
  const picture = await bytes();
  showAnswer(await post("answer", picture, labels));
  if (again) return;
  const label = labels[Number(chosen("label"))];
  showExplanation(await post("explanation", picture, [label]));
}

/** What the server answers; throws an Error whose message is for the user. */
async function post(address, picture, labels) {
  const form = new FormData();
  form.append("picture", picture, "picture");
  form.append("labels", labels.join("\n"));
  const response = await fetch(address, { method: "POST", body: form }).catch(() => null);
  if (!response) {
    changed(2000);
    throw new Error(`${GONE} This page tries again.`);
  }
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.error ?? "The server failed. Its terminal says why.");
  problem("");
  return found;
}

// ------------------------------------------------------------------------------------------ the answer

const percent = (share) => (100 * share).toFixed(1);

/** Say it in words, once the answers no longer change: screen readers read it aloud. */
const say = later((text) => {
  if ($("said").textContent !== text) $("said").textContent = text;
}, 350);

function showAnswer({ labels, notes }) {
  const best = labels.reduce((a, b, i) => (b.probability > labels[a].probability ? i : a), 0);
  if ($("rows").childElementCount !== labels.length) $("rows").replaceChildren(...labels.map((_, i) => makeRow(i)));
  labels.forEach(({ label, probability, cosine, tokens }, i) => {
    const row = $("rows").children[i];
    const part = (name) => row.querySelector(`.${name}`);
    row.classList.toggle("best", i === best);
    row.querySelector("input").ariaLabel = `${label}, ${percent(probability)} percent, cosine ${cosine.toFixed(2)}`;
    part("label").textContent = label;
    part("percent").textContent = `${percent(probability)}%`;
    part("cosine").textContent = `cosine ${cosine.toFixed(2)}`;
    part("fill").style.width = `${100 * probability}%`;
    const pieces = tokens.map(({ id, text }) => make("span", { className: "piece", title: `token ${id}` }, text.trim()));
    part("pieces").replaceChildren(...pieces);
  });
  if ($("follow").checked || !document.querySelector('input[name="label"]:checked')) {
    $("rows").children[best].querySelector("input").checked = true;
  }
  $("notes").replaceChildren(...notes.map((note) => make("li", {}, note)));
  $("answer").hidden = false;
  say(`${labels[best].label}, ${percent(labels[best].probability)} percent`);
}

function makeRow(i) {
  const input = make("input", { type: "radio", name: "label", value: i });
  input.addEventListener("change", () => {
    $("follow").checked = false;
    changed();
  });
  return make("label", { className: "row" },
    input, make("span", { className: "label" }), make("span", { className: "percent" }),
    make("span", { className: "bar", ariaHidden: "true" }, make("span", { className: "fill" })), make("span", { className: "cosine" }),
    make("span", { className: "pieces" }));
}
