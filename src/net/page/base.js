
// What all parts use: elements, the REST plugin, bytes and times.

/** The most bytes of an answer that are read. */
const MOST_BYTES = 16 << 20;

/** How long an answer is waited for, in milliseconds: Zenoh's own limit is 10 s. */
const PATIENCE = 15000;

/** An element. All that was stored gets into the page as text, by this function alone. */
function element(name, attributes = {}, ...inside) {
  const made = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) {
    if (attribute === "onclick") made.addEventListener("click", value);
    else if (value !== undefined && value !== false) made.setAttribute(attribute, value);
  }
  made.append(...inside.filter((piece) => piece !== undefined).map((piece) => piece instanceof Node ? piece : String(piece)));
  return made;
}

const byId = (id) => document.getElementById(id);

/** Changes a text only if it is another, so that nothing is drawn anew for nothing. */
function show(target, text) {
  const shown = String(text);
  if (target.textContent !== shown) target.textContent = shown;
}

/** Says something to people, those who do not see the page among them. */
function say(text) {
  show(byId("said"), text);
}

const encodePath = (key) => "/" + key.split("/").map(encodeURIComponent).join("/");

/** The path of what a replica is asked. REST decodes it once. */
const pathOf = (replica, what) => encodePath(`@mst/2/${replica.group}/${replica.name}/${what}`);

/** The router's clock minus this one's, in milliseconds, within a second or so. */
let clockOffset = 0;
const routerNow = () => Date.now() + clockOffset;

async function fetchBytes(path, payload) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), PATIENCE);
  try {
    const response = await fetch(path, {
      method: payload === undefined ? "GET" : "POST",
      body: payload,
      headers: payload === undefined ? {} : { "content-type": "text/plain" },
      cache: "no-store",
      signal: abort.signal,
    });
    const date = Date.parse(response.headers.get("date"));
    if (!Number.isNaN(date)) clockOffset = date - Date.now();
    const pieces = [];
    let length = 0;
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      length += value.length;
      if (length > MOST_BYTES) {
        abort.abort();
        throw new Error(`the answer has more than ${MOST_BYTES >> 20} MiB`);
      }
      pieces.push(value);
    }
    const bytes = joined(pieces);
    if (!response.ok) throw new Error(`REST answered ${response.status}: ${textOf(bytes).slice(0, 300)}`);
    return { bytes, type: response.headers.get("content-type") ?? "" };
  } catch (error) {
    if (error.name === "AbortError" && error.message.indexOf("MiB") < 0) throw new Error("there was no answer in time");
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** All answers to a query, as REST gives them: a key, and a value in JSON. */
async function query(path, payload) {
  const { bytes } = await fetchBytes(path, payload);
  return JSON.parse(textOf(bytes));
}

/** The one answer of a replica. */
async function ask(replica, what, payload) {
  const [name, parameters] = what.split("?");
  const path = pathOf(replica, name) + (parameters ? `?${parameters}` : "");
  const [answer] = await query(path, payload);
  if (!answer) throw new Error("the replica does not answer: it may be busy, gone, or have the option `operators: \"none\"`");
  if (answer.key === "ERROR") throw new Error(String(answer.value));
  return answer.value;
}

const joined = (pieces) => {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
};

const bytesOf = (text) => new TextEncoder().encode(text);
const textOf = (bytes) => new TextDecoder().decode(bytes);
const hexOf = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function bytesOfHex(hex) {
  if (!/^([0-9a-f]{2})*$/.test(hex)) throw new Error("these are no hexadecimal digits");
  return Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** The text if it is UTF-8, else nothing. */
function strictText(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

const short = (hex) => (hex ?? "").slice(0, 8);

/** How long something took or is ago, for people. */
function span(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

const sinceThen = (time) => (time ? span(routerNow() - Date.parse(time)) : "");

const count = (number) => (number === undefined ? "" : number.toLocaleString("en").replaceAll(",", "\u2009"));

/** A colour that tells a hash from others; the same for the same hash. */
function paint(target, hash) {
  if (target.dataset.hash === hash) return;
  target.dataset.hash = hash;
  const number = parseInt(hash.slice(0, 8), 16);
  target.style.backgroundColor = `hsl(${number % 360} ${45 + ((number >> 9) % 40)}% ${40 + ((number >> 16) % 25)}%)`;
}

/** A square of the colour of a hash. */
function swatch(hash) {
  const made = element("span", { class: "swatch", "aria-hidden": "true" });
  if (hash) paint(made, hash);
  return made;
}

/** The time of a timestamp `TIME/ID`, whose upper 32 bits are seconds. */
function timeOf(timestamp) {
  const time = BigInt(timestamp.split("/")[0]);
  const milliseconds = Number(((time & 0xffffffffn) * 1000n) >> 32n);
  return new Date(Number(time >> 32n) * 1000 + milliseconds).toISOString();
}

/** The key expression and the prefix that the name of a group says. */
function partsOfGroup(group) {
  const decoded = group.split("~").map((part) => {
    const bytes = part.replace(/%([0-9a-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
    return textOf(Uint8Array.from(bytes, (character) => character.charCodeAt(0)));
  });
  return { keyExpr: decoded[0], prefix: decoded[1] };
}
