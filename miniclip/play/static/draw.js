// The picture: drawn by mouse, pen, finger or keyboard, or taken from a file. After each change the canvas has the event
// "drawn".

import { $, GONE, about, chosen, later, make, problem } from "./page.js";

// ------------------------------------------------------------------------------------------- the tools

const SIDE = 480; // pixels of the shorter side of the drawing

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
export const drawing = { ground: "#ffffff", file: null, empty: true };
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
  canvas.dispatchEvent(new Event("drawn"));
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
  if (!bitmap) return problem(`${file.name} cannot be read as a picture: choose another file.`);
  remember();
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height);
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  pen.drawImage(bitmap, (canvas.width - w) / 2, (canvas.height - h) / 2, w, h);
  // of other formats than the server's, it gets what this browser shows
  drawn({ ground: "#ffffff", file: about.formats.includes(file.type) ? file : null });
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
export async function bytes() {
  if (drawing.file) return drawing.file;
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext("2d");
  context.fillStyle = drawing.ground;
  context.fillRect(0, 0, copy.width, copy.height);
  context.drawImage(canvas, 0, 0);
  return copy.convertToBlob();
}

// --------------------------------------------------------------------------------------------- begin

/** An empty picture, and all that changes it. */
export function beginDrawing() {
  const { width, height } = about.picture;
  [canvas.width, canvas.height] = [width, height].map((side) => Math.round((SIDE * side) / Math.min(width, height)));
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
  drawn({ empty: true });
}
