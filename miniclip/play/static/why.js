// Why a label fits: the relevance of its tokens and of the patches, and where each head looks.

import { $, chosen, make } from "./page.js";

let explanation = null; // the last one, with `picture`, what the model sees

export async function showExplanation(found) {
  const file = Uint8Array.from(atob(found.sees), (character) => character.charCodeAt(0));
  explanation = { ...found, picture: await createImageBitmap(new Blob([file], { type: "image/png" })) };
  $("explained").textContent = found.label;
  $("cosine").textContent = found.cosine.toFixed(2);
  showTokens(found.tokens);
  $("heads-part").hidden = !found.attention;
  if (found.attention) showHeads(found.attention);
  showView();
  $("why").hidden = false;
}

function showTokens(tokens) {
  const most = Math.max(...tokens.map(({ relevance }) => relevance), 0);
  $("tokens").replaceChildren(...tokens.map(({ token, relevance }) => {
    const item = make("li", {}, token, make("span", {}, relevance.toPrecision(2)));
    item.style.background = heat(most ? 0.65 * (relevance / most) : 0); // no darker, so that black text is readable
    return item;
  }));
}

function showHeads(attention) {
  const [blocks, heads] = [attention.length, attention[0].length];
  const rows = blocks === 1 ? "Of the attention pool" : `Blocks 1 to ${blocks} from top to bottom`;
  $("heads-note").textContent = `${rows}, heads 1 to ${heads} from left to right.`;
  const grid = $("heads");
  if (grid.childElementCount !== blocks * heads) {
    grid.style.gridTemplateColumns = `repeat(${heads}, minmax(1.5rem, 3.2rem))`;
    grid.replaceChildren(...attention.flatMap((block, l) => block.map((_, h) => makeHead(l, h))));
  }
  const scale = Math.min(1, 64 / explanation.picture.width); // hundreds of large ones would fill the memory
  attention.flat().forEach((map, i) => paint(grid.children[i].querySelector("canvas"), map, 0.85, scale));
}

function makeHead(l, h) {
  const name = `block ${l + 1}, head ${h + 1}`;
  const input = make("input", { type: "radio", name: "map", value: `${l},${h}`, ariaLabel: name });
  input.addEventListener("change", showView);
  return make("label", { className: "head", title: name }, input, make("canvas", { ariaHidden: "true" }));
}

/** The map that is chosen, over what the model sees; and in words where it is largest. */
export function showView() {
  const relevance = chosen("map") === "relevance";
  const [l, h] = chosen("map").split(",").map(Number);
  const map = relevance ? explanation.patches : explanation.attention[l][h];
  paint($("view"), map, Number($("opacity").value) / 100);
  const places = map.flatMap((row, y) => row.map((value, x) => ({ value, y, x }))).sort((a, b) => b.value - a.value);
  const words = places.slice(0, 3).filter(({ value }) => value > 0).map(({ y, x }) => `row ${y + 1} column ${x + 1}`);
  const what = relevance ? "Relevance is largest" : `Block ${l + 1}, head ${h + 1} looks most`;
  $("where").textContent = words.length
    ? `${what} at ${words.join("; ")}, of ${map.length} × ${map[0].length} patches.`
    : "No patch raises this label's score.";
}

/** What the model sees, in pale grey, with a map over it: the larger the number, the redder. */
function paint(target, map, opacity, scale = 1) {
  const { picture } = explanation;
  [target.width, target.height] = [picture.width * scale, picture.height * scale];
  const context = target.getContext("2d");
  context.drawImage(picture, 0, 0, target.width, target.height);
  for (const [operation, colour, alpha] of [["saturation", "grey", 1], ["source-over", "white", 0.5]]) {
    context.globalCompositeOperation = operation;
    context.globalAlpha = alpha * opacity;
    context.fillStyle = colour;
    context.fillRect(0, 0, target.width, target.height);
  }
  const most = Math.max(...map.flat());
  const [w, h] = [target.width / map[0].length, target.height / map.length];
  map.forEach((row, y) => row.forEach((value, x) => {
    const share = most ? value / most : 0;
    context.globalAlpha = opacity * Math.sqrt(share);
    context.fillStyle = heat(share);
    context.fillRect(x * w, y * h, w, h);
  }));
  context.globalAlpha = 1;
}

/** A colour from pale yellow to dark red for a share from 0 to 1, ColorBrewer's YlOrRd. */
function heat(share) {
  const colours = [[255, 255, 204], [254, 217, 118], [253, 141, 60], [227, 26, 28], [128, 0, 38]];
  const i = Math.min(Math.floor(4 * share), 3);
  return `rgb(${colours[i].map((low, c) => low + (colours[i + 1][c] - low) * (4 * share - i)).join(" ")})`;
}
