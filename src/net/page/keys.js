
// Keys, their values and cells, and proofs of them.

const KEYS_ON_A_PAGE = 100;

/** Bytes of values that are fetched without being asked for. */
const FETCHED_AT_ONCE = 256 << 10;

/** Bytes of a value that are shown. */
const SHOWN_BYTES = 64 << 10;

const PICTURES = /^image\/(png|jpeg|gif|webp|avif|bmp)\b/;

/** After which keys the pages begin, up to the one that is shown; and after which the next one. */
let pages = [undefined];
let nextPage;
let openKey;
let picture;

/** Lists that were asked for: an answer may come after that to a later question. */
let lists = 0;

async function listKeys() {
  const replica = chosen;
  if (!replica) return;
  const list = ++lists;
  const isLast = () => list === lists && replica === chosen;
  const parameters = [`limit=${KEYS_ON_A_PAGE}`];
  const prefix = byId("prefix").value;
  if (prefix) parameters.push(`prefix=${hexOf(bytesOf(prefix))}`);
  if (byId("deleted").checked) parameters.push("deleted=true");
  try {
    const page = await ask(replica, `keys?${parameters.join(";")}`, pages.at(-1));
    if (!isLast()) return;
    nextPage = page.next ?? undefined;
    byId("listed").replaceChildren(...page.keys.map(drawListed));
    show(byId("page-number"), page.keys.length ? `Page ${pages.length}, ${page.keys.length} keys` : nextPage ? "None among the keys that were looked at; go on" : "No keys");
    say("");
  } catch (error) {
    if (!isLast()) return;
    nextPage = undefined;
    byId("listed").replaceChildren();
    show(byId("page-number"), "");
    say(`The keys were not listed: ${error.message}`);
  }
  byId("earlier").disabled = pages.length < 2;
  byId("later").disabled = nextPage === undefined;
}

function drawListed(listed) {
  const words = [listed.cells > 1 ? `${listed.cells} cells` : "", listed.deleted ? "deleted" : "", listed.rule ? "rule" : ""];
  const button = element("button", {
    type: "button",
    class: listed.deleted ? "deleted-key" : undefined,
    "aria-pressed": listed.key === openKey,
    title: listed.time,
    onclick: () => {
      for (const other of byId("listed").querySelectorAll("[aria-pressed=true]")) other.setAttribute("aria-pressed", false);
      button.setAttribute("aria-pressed", true);
      openListed(listed);
    },
  }, listed.key, words.some(Boolean) ? ` (${words.filter(Boolean).join(", ")})` : undefined);
  return element("li", {}, button);
}

/** The key as the tree has it, without the storage's prefix. */
function storedKey(replica, key) {
  const { prefix } = replica;
  if (prefix === undefined) return key;
  return key === prefix ? "" : key.slice(prefix.length + 1);
}

async function fetchProof(replica, key) {
  const { bytes, type } = await fetchBytes(`${pathOf(replica, "proof")}?_raw=true`, key);
  if (type.startsWith("text/plain")) throw new Error(textOf(bytes));
  if (!bytes.length) throw new Error("the replica does not answer");
  return bytes;
}

/** Shows a key: what the proof says of it first, which has the lengths of its values and not these. */
async function openListed(listed) {
  const replica = chosen;
  openKey = listed.key;
  if (picture) URL.revokeObjectURL(picture);
  picture = undefined;
  const value = element("div", { id: "value" });
  const cells = element("div", { id: "cells" });
  const proof = element("div", { id: "proof" });
  const opened = byId("opened");
  opened.replaceChildren(
    element("h2", { class: "mono" }, listed.key),
    element("p", {}, `${listed.time} · ${listed.timestamp}`),
    element("h2", {}, "Value"), value, element("h2", {}, "Cells"), cells, element("h2", {}, "Proof"), proof,
  );
  opened.focus();
  const isOpen = () => openKey === listed.key && replica === chosen;
  const shown = { payload: undefined, recheck: () => {} };
  const fetchAll = async () => {
    await Promise.all([showValue(listed, value, shown, isOpen), showCells(replica, listed, cells, isOpen)]);
    if (isOpen()) shown.recheck();
  };
  let length = 0;
  if (!listed.rule) {
    const proven = await showProof(replica, listed.key, proof, shown);
    length = proven?.cells.reduce((sum, cell) => sum + (cell.value?.length ?? 0), 0) ?? Infinity;
  } else {
    show(proof, "A rule has no proof of its own.");
  }
  if (!isOpen()) return;
  if (length <= FETCHED_AT_ONCE) return fetchAll();
  const size = length === Infinity ? "of a length that is not known" : `of ${count(length)} bytes`;
  value.append(element("button", { type: "button", onclick: fetchAll }, `Fetch the value ${size}`));
}

async function showValue(listed, place, shown, isOpen) {
  if (listed.deleted || listed.rule) return show(place, listed.rule ? "Shown as its cells." : "Deleted.");
  try {
    const { bytes, type } = await fetchBytes(`${encodePath(listed.key)}?_raw=true`);
    if (!isOpen()) return;
    shown.payload = bytes;
    place.replaceChildren(element("p", {}, `${count(bytes.length)} bytes${type ? `, ${type}` : ""}`), drawValue(bytes, type));
  } catch (error) {
    place.replaceChildren(element("p", { class: "bad" }, error.message));
  }
}

function drawValue(bytes, type) {
  if (PICTURES.test(type)) {
    picture = URL.createObjectURL(new Blob([bytes], { type: type.split(";")[0] }));
    return element("img", { src: picture, alt: "The value as a picture" });
  }
  const cut = bytes.length > SHOWN_BYTES ? "\n… and more" : "";
  const text = bytes.length > SHOWN_BYTES ? textOf(bytes.subarray(0, SHOWN_BYTES)) : strictText(bytes);
  if (text === undefined) return element("pre", {}, hexOf(bytes.subarray(0, 4096)).replace(/(.{64})/g, "$1\n"));
  if (/json/.test(type) && !cut) {
    try {
      JSON.parse(text);
      return element("pre", {}, indented(text));
    } catch {
      // It is shown as it is.
    }
  }
  return element("pre", {}, text + cut);
}

/** JSON with white space, and numbers as they were written. */
function indented(json) {
  let [depth, made] = [0, ""];
  const line = () => `\n${"  ".repeat(Math.min(depth, 40))}`;
  for (const [piece] of json.matchAll(/"(?:[^"\\]|\\.)*"|[^\s"{}[\],:]+|[{}[\],:]/g)) {
    if (piece === "{" || piece === "[") {
      depth++;
      made += piece + line();
    } else if (piece === "}" || piece === "]") {
      depth--;
      made += line() + piece;
    } else if (piece === ",") made += piece + line();
    else made += piece === ":" ? ": " : piece;
  }
  return made;
}

async function showCells(replica, listed, place, isOpen) {
  try {
    const cells = await ask(replica, "cells", listed.key);
    if (!isOpen()) return;
    const text = JSON.stringify(cells, undefined, 1);
    place.replaceChildren(element("pre", {}, text.length > SHOWN_BYTES ? `${text.slice(0, SHOWN_BYTES)}\n… and more` : text));
  } catch (error) {
    place.replaceChildren(element("p", { class: "bad" }, error.message));
  }
}

/** Fetches a proof, checks it, and says what it shows; returns what it proves. */
async function showProof(replica, key, place, shown) {
  const wanted = element("input", { id: "root", class: "mono", size: 66, maxlength: 64, autocomplete: "off", spellcheck: "false" });
  const check = element("button", { type: "button", id: "check" }, "Check again");
  const verdict = element("p", { id: "verdict", role: "status" }, "asked");
  const details = element("ul");
  place.replaceChildren(
    element("p", { class: "bar" }, element("label", {}, "Against this root (empty: the one that it gives) ", wanted), check),
    verdict, details,
  );
  const run = async () => {
    verdict.className = "";
    show(verdict, "checking");
    details.replaceChildren();
    try {
      const data = await fetchProof(replica, key);
      const trusted = wanted.value.trim().toLowerCase();
      holds(!trusted || /^[0-9a-f]{64}$/.test(trusted), "a root has 64 hexadecimal digits");
      const read = await readProof(data, canonicalKey(storedKey(replica, key)));
      holds(!trusted || read.root === trusted, `it is against the root ${read.root}`);
      const others = [...replicas.values()].filter((other) => other.group === replica.group && rootOf(other) === read.root);
      const of = trusted ? "the root that you trust" : `the root ${read.root}, which ${others.length ? `${others.map((other) => short(other.name)).join(", ")} had when last heard of` : "no replica here was heard to have"}`;
      const how = globalThis.crypto?.subtle ? "by WebCrypto" : "without WebCrypto, which this browser has for HTTPS and 127.0.0.1 alone";
      verdict.className = "good";
      show(verdict, `The proof holds, ${data.length} bytes, checked in this browser ${how}: under ${of}, the key has ${read.cells.length ? `${read.cells.length} cells, and no others` : "no cells"}.`);
      const load = shown.payload && hexOf(await hashOf("mst1load", shown.payload));
      details.replaceChildren(...read.cells.slice(0, 100).map(({ part, timestamp, value }) => {
        const what = value ? `${count(value.length)} bytes, hash ${value.hash}` : "deleted";
        const same = value && load === value.hash ? ": the value that is shown above" : "";
        return element("li", { class: "mono" }, `${part ? `part ${part.slice(0, 80)}` : "own"} · ${timeOf(timestamp)} · ${what}${same}`);
      }));
      return read;
    } catch (error) {
      verdict.className = "bad";
      show(verdict, `The proof does not hold: ${error.message}`);
      return undefined;
    }
  };
  check.addEventListener("click", run);
  shown.recheck = run;
  return run();
}

function turn(isOn) {
  if (isOn && nextPage !== undefined) pages.push(nextPage);
  if (!isOn && pages.length > 1) pages.pop();
  return listKeys();
}

function search() {
  pages = [undefined];
  return listKeys();
}
