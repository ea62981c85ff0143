// What the other modules share: elements of the page, what the server told about the model, and problems.

export const $ = (id) => document.getElementById(id);
export const about = await (await fetch("about")).json();

/** A new element: make("span", {className: "bar"}, child, "text", ...) */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** The value of the radio button that is chosen in a group. */
export const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

/** Calls `action` once, `wait` milliseconds after the last call. */
export function later(action, wait) {
  let timer;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(action, wait, ...values);
  };
}

export const GONE = "The server does not answer. Is miniclip play still running?";

/** Show what went wrong; "" if nothing did. An answer that is still shown is an older one. */
export function problem(message) {
  if ($("problem").textContent !== message) $("problem").textContent = message;
  for (const part of ["answer", "why", "said"]) $(part).classList.toggle("stale", message !== "");
}
