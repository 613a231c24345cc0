"use strict";

const SHOWN = 10;
const at = (id) => document.getElementById(id);
let token = "";

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

function bar(name, probability) {
  const percent = (100 * probability).toFixed(1);
  const row = element("div", { class: "row" });
  row.append(element("span", { class: "name", dir: "auto" }, name));
  const meter = element("meter", { min: 0, max: 1, value: probability, "aria-label": name });
  row.append(meter, element("span", { class: "number" }, `${percent} %`));
  return row;
}

function number(name, value) {
  const row = element("div", { class: "row" });
  row.append(element("span", { class: "name", dir: "auto" }, name));
  row.append(element("strong", {}, String(Number(value.toPrecision(5)))));
  return row;
}

function picture(file) {
  const image = element("img", { alt: file.name, src: URL.createObjectURL(file) });
  image.addEventListener("error", () => image.remove());
  return image;
}

function shown(sample, answer) {
  const card = element("section", { class: "card" });
  card.append(sample);
  const rows = element("div", { class: "rows" });
  card.append(rows);
  if (answer.error) {
    rows.append(element("p", { class: "error" }, answer.error));
    return card;
  }
  if (answer.values) {
    for (const [name, value] of Object.entries(answer.values)) rows.append(number(name, value));
    return card;
  }
  const given = [answer.predicted].flat().join(", ");
  rows.append(element("h2", { dir: "auto" }, given || "no label"));
  if (answer.truncated) {
    rows.append(element("p", { class: "small" }, "The text is longer than what the model takes: it did not see the end."));
  }
  const classes = Object.entries(answer.probabilities);
  for (const [name, probability] of classes.slice(0, SHOWN)) rows.append(bar(name, probability));
  if (classes.length > SHOWN) {
    rows.append(element("p", { class: "small" }, `and ${classes.length - SHOWN} less probable ones`));
  }
  return card;
}

async function classify(body, type = {}) {
  const headers = token ? { ...type, Authorization: `Bearer ${token}` } : type;
  try {
    const response = await fetch("predict", { method: "POST", body, headers });
    const answer = await response.json();
    if (response.status === 401) at("token-line").hidden = false;
    return response.ok ? answer.predictions[0] : { error: answer.error || response.statusText };
  } catch {
    return { error: "the server does not answer" };
  }
}

async function take(files) {
  const images = [...files];
  if (!images.length) return;
  at("status").textContent = images.length > 1 ? `Sending ${images.length} images …` : "Sending …";
  at("results").replaceChildren();
  for (const file of images) {
    const form = new FormData();
    form.append("file", file);
    at("results").append(shown(picture(file), await classify(form)));
  }
  const first = at("results").querySelector("h2, strong");
  at("status").textContent = images.length > 1 ? `${images.length} images` : first ? "" : "The image could not be classified.";
}

at("say").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = at("text").value;
  at("status").textContent = "Sending …";
  const answer = await classify(JSON.stringify({ text }), { "Content-Type": "application/json" });
  at("results").replaceChildren(shown(element("p", { class: "said", dir: "auto" }, text), answer));
  at("status").textContent = answer.error ? "The text could not be classified." : "";
});
for (const id of ["choose", "photo"]) {
  at(id).addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = "";
  });
}
const drop = at("drop");
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  take(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => {
  if (!at("drop").hidden) take(event.clipboardData.files);
});
at("token").addEventListener("change", (event) => {
  token = event.target.value.trim();
});

fetch("model")
  .then((response) => response.json())
  .then((model) => {
    const names = { regression: ["target", "targets"], multi_label: ["label", "labels"] };
    const [one, several] = names[model.task] || ["class", "classes"];
    const count = model.classes.length;
    at("about").textContent = `${model.label}: ${count} ${count === 1 ? one : several}.`;
    at("drop").hidden = model.takes === "text";
    at("say").hidden = model.takes !== "text";
    at("token-line").hidden = !model.needs_token;
  });
