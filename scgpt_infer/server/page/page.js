// The page: files are sent one after the other, jobs are looked at until they have ended, reports are shown.

import { Card } from "./card.js";
import { Refused, ask, key, look, save, send } from "./server.js";

const at = (id) => document.getElementById(id);
const [unlock, form, files, drop, said, listed, jobs, report, stage] =
  ["unlock", "send", "files", "drop", "said", "listed", "jobs", "report", "stage"].map(at);
const OUTPUTS = {
  annotate: { h5ad: ".h5ad, with a report", csv: ".csv", json: ".json", parquet: ".parquet" },
  embed: { h5ad: ".h5ad, with a report", npy: ".npy", csv: ".csv", json: ".json", parquet: ".parquet" },
};
const EVERY_MS = 1000;
const OPEN = ["queued", "running"];

const cards = new Map(); // by id of the job
const sending = []; // uploads that wait, the first is on its way
let models = [];
let timer = 0;
let looks = 0;

const tell = (words) => {
  said.textContent = words;
};

/** Run what may be refused: its words are shown, and a key is asked for where one is missing. */
async function trying(work) {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 401) lock(key.get() ? "This key is not known here." : "");
    else tell(error.message);
    return undefined;
  }
}

function lock(words) {
  unlock.hidden = false;
  form.hidden = listed.hidden = report.hidden = true;
  tell(words);
  at("key").focus();
}

unlock.onsubmit = (event) => {
  event.preventDefault();
  key.set(at("key").value.trim());
  at("key").value = "";
  start();
};

async function start() {
  const found = await trying(() => look("v1/models"));
  if (!found) return unlock.hidden && setTimeout(start, EVERY_MS); // the server may be about to come
  unlock.hidden = true;
  form.hidden = false;
  tell("");
  models = found.models;
  at("model").replaceChildren(...models.map((model) => new Option(model.name)));
  at("of").hidden = models.length < 2;
  choose();
  await refresh();
}

/** Offer what the chosen model can do. */
function choose() {
  const model = models.find((one) => one.name === at("model").value);
  const can = (task) => !model?.abilities || model.abilities.includes(task);
  for (const option of at("task").options) option.disabled = !can(option.value);
  if (at("task").selectedOptions[0]?.disabled) at("task").value = can("embed") ? "embed" : "annotate";
  const outputs = Object.entries(OUTPUTS[at("task").value]);
  const last = at("output").value;
  at("output").replaceChildren(...outputs.map(([name, words]) => new Option(words, name)));
  if (outputs.some(([name]) => name === last)) at("output").value = last;
}

at("model").onchange = at("task").onchange = choose;

files.onchange = () => {
  take(files.files);
  files.value = "";
};
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
addEventListener("dragover", () => drop.classList.add("over"));
addEventListener("dragleave", (event) => event.relatedTarget ?? drop.classList.remove("over"));
addEventListener("drop", (event) => {
  drop.classList.remove("over");
  if (!form.hidden) take(event.dataTransfer.files);
});

function take(chosen) {
  const [task, output, model] = ["task", "output", "model"].map((id) => at(id).value);
  for (const file of chosen) {
    const asked = new URLSearchParams({ task, output, name: file.name, report: output === "h5ad", ...(model && { model }) });
    const job = { state: "sending", name: file.name, sent: 0, bytes: file.size, task };
    const card = new Card({ ...does, cancel: () => cancelled(upload), remove: () => away(card) });
    const upload = { path: `v1/jobs?${asked}`, file, job, card };
    card.show(job);
    jobs.prepend(card.element);
    sending.push(upload);
    if (sending.length === 1) next();
  }
  listed.hidden = !jobs.children.length;
}

async function next() {
  const upload = sending[0];
  if (!upload) return;
  const { job, card, file } = upload;
  const { answer, abort } = send(upload.path, file, (sent) => {
    Object.assign(job, sent < file.size ? { sent } : { state: "checking", sent });
    card.show(job);
  });
  upload.abort = abort;
  try {
    const made = await answer;
    cards.set(made.id, card);
    card.does = does;
    card.show(made);
    card.follow = true;
    tell(`${job.name} was taken.`);
  } catch (error) {
    card.show({ ...job, state: upload.gone ? "cancelled" : "failed", error: error.message });
    if (error.status === 401) lock("");
    else tell(`${job.name}: ${error.message}`);
  }
  sending.shift();
  next();
  refresh();
}

function cancelled(upload) {
  upload.gone = true;
  if (upload.abort) return upload.abort();
  sending.splice(sending.indexOf(upload), 1);
  upload.card.show({ ...upload.job, state: "cancelled" });
}

/** Look at all jobs now, and again until none is open. */
async function refresh() {
  clearTimeout(timer);
  const mine = ++looks;
  const found = await trying(() => look("v1/jobs"));
  if (mine !== looks) return; // a later look is on its way, and this answer may be older than what is shown
  if (found) {
    const there = new Set(found.jobs.map((job) => job.id));
    [...cards.keys()].filter((id) => !there.has(id)).forEach(gone);
    found.jobs.forEach(shown);
    listed.hidden = !jobs.children.length;
  }
  if (!unlock.hidden) return;
  if (!found || found.jobs.some((job) => OPEN.includes(job.state))) timer = setTimeout(refresh, EVERY_MS);
}

function away(card) {
  card.element.remove();
  listed.hidden = !jobs.children.length;
}

function gone(id) {
  away(cards.get(id));
  cards.delete(id);
  if (stage.dataset.id === id) at("close").click();
}

function shown(job) {
  let card = cards.get(job.id);
  if (!card) {
    card = new Card(does);
    cards.set(job.id, card);
    jobs.append(card.element);
  }
  card.show(job);
  if (!card.follow || OPEN.includes(job.state)) return;
  card.follow = false; // it ended while somebody waited for it
  tell(job.state === "succeeded" ? `${job.name} is done.` : `${job.name}: ${job.error ?? job.state}`);
  const made = job.results.find((result) => result.name.endsWith(".html"));
  if (made) does.report(job, made);
}

const end = (job) =>
  trying(async () => {
    await ask(`v1/jobs/${job.id}`, "DELETE");
    await refresh();
  });

const place = (result) => result.href.slice(1); // as seen from here: a proxy may have put this page below a path

const does = {
  cancel: end,
  remove: end,
  save: (job, result) => trying(() => save(place(result), result.name)),
  report: (job, result) => trying(async () => open(job, await (await ask(place(result))).text())),
};

/** Show a report in a frame that can reach neither this page nor the network. */
function open(job, text) {
  const frame = document.createElement("iframe");
  frame.title = `Report of ${job.name}`;
  frame.sandbox = "allow-scripts allow-downloads";
  frame.src = "page/frame.html";
  addEventListener("message", function ready(event) {
    if (event.source !== frame.contentWindow || event.data !== "ready") return;
    removeEventListener("message", ready);
    frame.contentWindow.postMessage(text, "*"); // its origin is its own, and has no name
  });
  at("report-name").textContent = `Report: ${job.name}`;
  stage.dataset.id = job.id;
  report.hidden = false;
  stage.replaceChildren(frame);
  at("report-name").focus({ preventScroll: true });
  report.scrollIntoView();
}

at("large").onclick = () => stage.firstChild?.requestFullscreen();
at("close").onclick = () => {
  report.hidden = true;
  stage.replaceChildren();
};
addEventListener("focus", () => {
  if (unlock.hidden && !form.hidden) refresh();
});

start();
