// One file in the list: `Card` shows its state, and what can be done with it. What comes of a click, others decide.

const STATES = {
  sending: "is sent",
  checking: "is checked",
  queued: "waits",
  running: "is worked on",
  succeeded: "done",
  failed: "failed",
  cancelled: "cancelled",
};
const BUSY = ["sending", "checking", "queued", "running"];

const number = new Intl.NumberFormat("en");

/** Bytes in words, in powers of 1000. */
export function size(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let power = 0;
  for (; bytes >= 999.95 && power < units.length - 1; power++) bytes /= 1000;
  return `${power ? bytes.toFixed(1) : bytes} ${units[power]}`;
}

const make = (tag, words = "", names = "") => {
  const made = document.createElement(tag);
  made.textContent = words; // never HTML: names are of strangers' files
  made.className = names;
  return made;
};

const button = (words, of, does) => {
  const made = make("button", words);
  made.type = "button";
  made.ariaLabel = `${words}: ${of}`;
  made.onclick = does;
  return made;
};

/** What is told of a job beside its state. */
function facts(job) {
  if (job.state === "sending") return `${size(job.sent)} of ${size(job.bytes)}`;
  if (job.state === "failed" || job.error) return job.error ?? "";
  const summary = job.summary;
  if (job.state !== "succeeded") return job.cells ? `${number.format(job.cells_done)} of ${number.format(job.cells)} cells` : "";
  if (!summary) return "";
  const cells = `${number.format(summary.n_cells ?? job.cells)} cells`;
  const matched = summary.match_fraction ? `, ${Math.round(100 * summary.match_fraction)} % of genes known` : "";
  const bad = summary.n_bad ? `, ${number.format(summary.n_bad)} without a result` : "";
  const report = summary.report_error ? `. No report: ${summary.report_error}` : "";
  return cells + matched + bad + report;
}

export class Card {
  /** `does` has the functions cancel, remove, save and report, each of which takes a job (and a result). */
  constructor(does) {
    this.does = does;
    this.element = make("li", "", "card");
    this.name = make("h3");
    this.state = make("span", "", "state");
    this.facts = make("p", "", "facts");
    this.bar = make("progress");
    this.actions = make("p", "", "actions");
    const head = make("div", "", "head");
    head.append(this.name, this.state);
    this.element.append(head, this.bar, this.facts, this.actions);
    this.shown = "";
  }

  show(job) {
    const seen = JSON.stringify(job);
    if (seen === this.shown) return; // focus stays where it is
    const last = this.shown ? JSON.parse(this.shown).state : "";
    this.shown = seen;
    this.element.dataset.state = job.state;
    this.element.dataset.id = job.id;
    this.name.textContent = job.name;
    this.state.textContent = STATES[job.state] ?? job.state;
    this.facts.textContent = facts(job);
    this.bar.hidden = !BUSY.includes(job.state);
    this.bar.ariaLabel = `Progress of ${job.name}`;
    const [part, whole] = job.state === "sending" ? [job.sent, job.bytes] : [job.cells_done, job.cells];
    if (whole && job.state !== "checking") Object.assign(this.bar, { max: whole, value: part });
    else this.bar.removeAttribute("value");
    if (last !== job.state) this.actions.replaceChildren(...this.buttons(job));
  }

  buttons(job) {
    const busy = BUSY.includes(job.state);
    const made = busy
      ? [button("Cancel", job.name, () => this.does.cancel(job))]
      : [button("Remove", job.name, () => this.does.remove(job))];
    for (const result of job.results ?? []) {
      const save = button(`Download ${result.name}`, size(result.bytes), () => this.does.save(job, result));
      save.append(make("small", ` ${size(result.bytes)}`));
      made.unshift(save);
      if (result.name.endsWith(".html")) made.unshift(button("Show report", job.name, () => this.does.report(job, result)));
    }
    return made;
  }
}
