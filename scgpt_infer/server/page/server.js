// Requests to the server that the page came from: paths in, what it answers out. It knows the key, no elements.

const KEPT = "scgpt-infer key";

export const key = {
  get: () => sessionStorage.getItem(KEPT) ?? "",
  set: (words) => sessionStorage.setItem(KEPT, words),
};

/** An answer that is none: the server's words, or those for a server that is not there. */
export class Refused extends Error {
  constructor(status, words) {
    super(words || (status ? `The server answered ${status}.` : "The server cannot be reached."));
    this.status = status;
  }
}

const headers = () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {});

const told = (status, text) => {
  try {
    return new Refused(status, JSON.parse(text).error);
  } catch {
    return new Refused(status, "");
  }
};

/** The answer to a request; errors are `Refused`. */
export async function ask(path, method = "GET") {
  let answer;
  try {
    answer = await fetch(path, { method, headers: headers(), cache: "no-store" });
  } catch {
    throw new Refused(0, "");
  }
  if (!answer.ok) throw told(answer.status, await answer.text());
  return answer;
}

/** What a path holds as JSON. */
export const look = async (path) => (await ask(path)).json();

/** Send a file; `progress` takes the bytes that went. Gives the promise of the answer, and what breaks it off. */
export function send(path, file, progress) {
  const request = new XMLHttpRequest(); // fetch tells nothing of bytes on their way
  const answer = new Promise((done, failed) => {
    request.onload = () =>
      request.status < 300 ? done(JSON.parse(request.responseText)) : failed(told(request.status, request.responseText));
    request.onerror = () => failed(new Refused(0, ""));
    request.onabort = () => failed(new Refused(0, "Cancelled."));
  });
  request.upload.onprogress = (event) => progress(event.loaded);
  request.open("POST", path);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
  request.send(file);
  return { answer, abort: () => request.abort() };
}

/** Save a result: by a plain link where none needs a key, which a link could not show. */
export async function save(href, name) {
  const link = document.createElement("a");
  link.download = name;
  link.href = key.get() ? URL.createObjectURL(await (await ask(href)).blob()) : href;
  link.click();
  if (key.get()) setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
