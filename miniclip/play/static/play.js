// The page of `miniclip play`: draw a picture, send it with the labels to the server, show what the model answers.
// Everything comes from this server: `about` once, then `answer` and `explanation` for each picture.
//
// page.js     what the others share
// draw.js     the picture
// answer.js   the questions to the server, and its answer
// why.js      the explanation

import { changed } from "./answer.js";
import { beginDrawing } from "./draw.js";
import { $, about } from "./page.js";
import { showView } from "./why.js";

const { width, height, rows, columns } = about.picture;
$("about").textContent = `The model ${about.model} sees ${width} × ${height} pixels, in ${rows} × ${columns} patches.`;
$("method").textContent = about.relevance;
$("labels").value = about.labels.join("\n");
$("labels").addEventListener("input", () => changed(200));
$("follow").addEventListener("change", () => changed());
$("canvas").addEventListener("drawn", () => changed());
$("opacity").addEventListener("input", showView);
document.querySelector('input[value="relevance"]').addEventListener("change", showView);
beginDrawing();
