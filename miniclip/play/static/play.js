// The page of `miniclip play`: draw a picture, send it with the labels to the server, show what the model answers.
// Everything comes from this server: `about` once, then `answer` and `explanation` for each picture.

const $ = (id) => document.getElementById(id);
const about = await (await fetch("about")).json();

/** A new element: make("span", {className: "bar"}, child, "text", ...) */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The value of the radio button that is chosen in a group. */
const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

/** Calls `action` once, `wait` milliseconds after the last call. */
function later(action, wait) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(action, wait, ...values);
  };
}

// ------------------------------------------------------------------------------------------- the tools

const SIDE = 480; // pixels of the shorter side of the drawing
const { width, height, rows, columns } = about.picture;

function makeTools() {
  for (const [name, outline] of Object.entries(about.shapes)) {
    const icon = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const polygon = document.createElementNS("http://www.w3.org/2000/svg", "polygon");
    icon.setAttribute("viewBox", "-1.3 -1.3 2.6 2.6");
    polygon.setAttribute("points", outline.join(" "));
    icon.append(polygon);
    icon.ariaHidden = "true";
    const input = make("input", { type: "radio", name: "tool", value: name, ariaLabel: name });
    $("tools").append(make("label", { title: name }, input, icon));
  }
  const another = $("colours").querySelector("label");
  for (const [name, colour] of Object.entries(about.colours)) {
    const input = make("input", { type: "radio", name: "colour", value: name, ariaLabel: name, checked: name === "red" });
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = colour;
    another.before(make("label", { title: name }, input, swatch));
  }
  for (const [group, shown] of [["tool", "tool-name"], ["colour", "colour-name"]]) {
    const show = () => { $(shown).textContent = chosen(group); };
    for (const input of document.querySelectorAll(`input[name="${group}"]`)) input.addEventListener("change", show);
    show();
  }
}

const colour = () => about.colours[chosen("colour")] ?? $("own-colour").value;
const size = () => (Number($("size").value) / 100) * SIDE;

// ----------------------------------------------------------------------------------------- the drawing

const canvas = $("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });

// What is drawn is transparent elsewhere: the ground can change below it. `file` is the file that was chosen, until
// something is drawn on it: the model gets its bytes as they are.
const drawing = { ground: "#ffffff", file: null, empty: true };
const history = [];

/** Remember the drawing as it is, before it changes. */
function remember() {
  history.push({ ...drawing, pixels: pen.getImageData(0, 0, canvas.width, canvas.height) });
  if (history.length > 30) history.shift();
}

function drawn(change) {
  Object.assign(drawing, { empty: false, file: null }, change);
  canvas.style.background = drawing.ground;
  $("hint").hidden = !drawing.empty;
  $("undo").disabled = !history.length;
  changed();
}

function undo() {
  const { pixels, ...before } = history.pop() ?? {};
  if (!pixels) return;
  pen.putImageData(pixels, 0, 0);
  drawn(before);
}

function clear() {
  remember();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  drawn({ ground: "#ffffff", empty: true });
}

/** A line of the brush or the eraser. Points are [x, y] in pixels. */
function line(from, to) {
  pen.globalCompositeOperation = chosen("tool") === "eraser" ? "destination-out" : "source-over";
  pen.strokeStyle = colour();
  pen.lineWidth = Math.max(size() / 3, 2);
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
  pen.globalCompositeOperation = "source-over";
}

/** A shape around a point; `radius` in pixels. */
function stamp(shape, [x, y], radius) {
  pen.fillStyle = colour();
  pen.beginPath();
  for (const [dx, dy] of about.shapes[shape]) pen.lineTo(x + radius * dx, y + radius * dy);
  pen.fill();
}

/** With the mouse, a pen or a finger: the brush follows; a shape grows with the distance from where it began. */
function drawByPointer() {
  let stroke = null; // {tool, start, last}
  const point = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * canvas.width, ((event.clientY - box.top) / box.height) * canvas.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button || stroke) return;
    canvas.setPointerCapture(event.pointerId);
    remember();
    const start = point(event);
    stroke = { tool: chosen("tool"), start, last: start };
    if (about.shapes[stroke.tool]) stamp(stroke.tool, start, size());
    else line(start, start);
    drawn();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!stroke) return;
    if (about.shapes[stroke.tool]) {
      const [x, y] = point(event);
      const radius = Math.hypot(x - stroke.start[0], y - stroke.start[1]);
      if (radius < 8) return; // a click that trembles
      pen.putImageData(history.at(-1).pixels, 0, 0);
      stamp(stroke.tool, stroke.start, radius);
    } else {
      for (const part of event.getCoalescedEvents?.() ?? [event]) {
        const next = point(part);
        line(stroke.last, next);
        stroke.last = next;
      }
    }
    drawn();
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { stroke = null; });
}

/** With the keyboard: arrow keys move a cross, Space draws there. */
function drawByKeyboard() {
  const cross = { x: 0.5, y: 0.5, down: false };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const point = () => [cross.x * canvas.width, cross.y * canvas.height];
  const inside = (x) => Math.min(Math.max(x, 0), 1);
  const tell = later((text) => { $("moves").textContent = text; }, 300);
  const show = () => {
    $("cross").style.left = `${100 * cross.x}%`;
    $("cross").style.top = `${100 * cross.y}%`;
    $("cross").classList.toggle("down", cross.down);
  };
  const lift = () => { cross.down = false; };
  canvas.addEventListener("blur", lift);
  canvas.addEventListener("pointerdown", lift);
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    let did = "";
    if (event.key === "Escape") lift();
    else if (arrows[event.key]) {
      const [dx, dy] = arrows[event.key].map((way) => way * (event.shiftKey ? 0.01 : 0.05));
      const from = point();
      Object.assign(cross, { x: inside(cross.x + dx), y: inside(cross.y + dy) });
      if (cross.down) {
        line(from, point());
        drawn();
      }
    } else if (event.key === " " && !event.repeat) {
      const tool = chosen("tool");
      if (!cross.down) {
        remember();
        if (about.shapes[tool]) stamp(tool, point(), size());
        else line(point(), point());
        drawn();
      }
      cross.down = !cross.down && !about.shapes[tool];
      did = about.shapes[tool] ? `${chosen("colour")} ${tool} drawn.` : `${tool} ${cross.down ? "down" : "lifted"}.`;
    } else if (event.key !== " ") return;
    event.preventDefault();
    show();
    tell(`${did} ${Math.round(100 * cross.x)} percent from the left, ${Math.round(100 * cross.y)} from the top`);
  });
  show();
}

// ------------------------------------------------------------------------------------ pictures from files

/** Show a file on the canvas, its middle if it is longer, and let the model see its bytes. */
async function load(file) {
  if (!file) return;
  if (file.size > about.limits.bytes) {
    return problem(`${file.name} has more than ${about.limits.bytes / 1e6} million bytes: choose a smaller picture.`);
  }
  const bitmap = await createImageBitmap(file).catch(() => null);
  remember();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  if (bitmap) {
    const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height);
    const [w, h] = [bitmap.width * scale, bitmap.height * scale];
    pen.drawImage(bitmap, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
  }
  // of other formats, the server gets what this browser shows; if it shows nothing, the server says why
  drawn({ ground: "#ffffff", file: bitmap && !about.formats.includes(file.type) ? null : file });
}

function takeFiles() {
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    load($("file").files[0]);
    $("file").value = ""; // so that the same file can be chosen again
  });
  $("example").addEventListener("click", async () => {
    const response = await fetch("example.png").catch(() => null);
    if (!response) return problem(GONE);
    load(await response.blob());
  });
  addEventListener("paste", (event) => load(event.clipboardData.files[0]));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    $("paper").classList.add("dropping");
  });
  addEventListener("dragleave", () => $("paper").classList.remove("dropping"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("paper").classList.remove("dropping");
    load(event.dataTransfer.files[0]);
  });
}

/** The bytes that the model gets. */
async function bytes() {
  if (drawing.file) return drawing.file;
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext("2d");
  context.fillStyle = drawing.ground;
  context.fillRect(0, 0, copy.width, copy.height);
  context.drawImage(canvas, 0, 0);
  return copy.convertToBlob();
}

// ------------------------------------------------------------------------------------------ the server

const GONE = "The server does not answer. Is miniclip play still running?";
let asking = false;
let again = false;
let timer = null;

/** The picture or the labels changed: ask soon. While the server computes, changes wait for the next question. */
function changed(wait = 60) {
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

/** Show what went wrong; "" if nothing did. An answer that is still shown is an older one. */
function problem(message) {
  if ($("problem").textContent !== message) $("problem").textContent = message;
  for (const part of ["answer", "why", "said"]) $(part).classList.toggle("stale", message !== "");
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

// --------------------------------------------------------------------------------------------- the why

let explanation = null; // the last one, with `picture`, what the model sees

async function showExplanation(found) {
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
function showView() {
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

// --------------------------------------------------------------------------------------------- begin

[canvas.width, canvas.height] = [width, height].map((side) => Math.round((SIDE * side) / Math.min(width, height)));
$("about").textContent = `The model ${about.model} sees ${width} × ${height} pixels, in ${rows} × ${columns} patches.`;
$("method").textContent = about.relevance;
$("labels").value = about.labels.join("\n");
makeTools();
drawByPointer();
drawByKeyboard();
takeFiles();
$("undo").addEventListener("click", undo);
$("clear").addEventListener("click", clear);
$("ground").addEventListener("click", () => {
  remember();
  drawn({ ground: colour() });
});
addEventListener("keydown", (event) => {
  if (event.key === "z" && (event.ctrlKey || event.metaKey) && event.target !== $("labels")) {
    event.preventDefault();
    undo();
  }
});
$("labels").addEventListener("input", () => changed(200));
$("follow").addEventListener("change", () => changed());
$("opacity").addEventListener("input", showView);
document.querySelector('input[value="relevance"]').addEventListener("change", showView);
drawn({ empty: true });
