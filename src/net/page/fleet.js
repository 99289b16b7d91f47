
// The replicas of all groups that this router sees: how they are, and what each makes of the others.

/** How often replicas are asked, in milliseconds, and how many others than the chosen one each time. */
const EVERY = 2000;
const OTHERS_AT_ONCE = 3;

/** How often it is asked which there are. */
const DISCOVERED_EVERY = 30000;

/** The most replicas that are shown. */
const MOST_REPLICAS = 4096;

/** The most peers, and refused writes, that are told one by one. */
const PEERS_SHOWN = 20;
const REFUSED_SHOWN = 5;

/** For how long announcements are listened to, at the most; see docs/operators.md, "The page". */
const LISTENED_FOR = 600000;

/** What is shown of the past. */
const PAST = 300000;

/** By group and name. `samples` are counters at times, for the plots. */
const replicas = new Map();
let chosen;

function replicaOf(group, name) {
  const id = `${group}/${name}`;
  let replica = replicas.get(id);
  if (!replica && replicas.size < MOST_REPLICAS) {
    replica = { id, group, name, ...partsOfGroup(group), samples: [], askedAt: 0 };
    replicas.set(id, replica);
  }
  return replica;
}

/** The replica whose key this is: @mst/2/<group>/<replica>/... */
function replicaOfKey(key) {
  const chunks = key.split("/");
  return chunks.length > 4 && chunks[0] === "@mst" ? replicaOf(chunks[2], chunks[3]) : undefined;
}

/** Whom a replica hears of: by name, what it says of them. */
const peersOf = (replica) => replica?.status?.replication?.peers ?? [];

/** The root of a replica, by what was heard last. */
function rootOf(replica) {
  return replica.root;
}

function heardRoot(replica, root, at) {
  if (root && !(replica.rootAt > at)) [replica.root, replica.rootAt] = [root, at];
}

function lagOf(status) {
  const peers = (status.replication?.peers ?? []).filter((peer) => peer.present && peer.relation !== "isolated");
  const lags = peers.filter((peer) => peer.relation !== "equal").map((peer) => routerNow() - Date.parse(peer.last_equal ?? peer.since));
  return Math.max(0, ...lags) / 1000;
}

function take(replica, status) {
  const now = performance.now();
  replica.status = status;
  replica.failure = undefined;
  replica.statusAt = now;
  heardRoot(replica, status.root, Date.parse(status.cut));
  const { counters, queues, replication } = status;
  replica.samples.push({
    at: now,
    puts: counters.puts + counters.deletes,
    gets: counters.gets,
    pulls: replication?.pulls.completed ?? 0,
    failed: replication?.pulls.failed ?? 0,
    waiting: queues.uncommitted + queues.unsettled,
    lag: lagOf(status),
  });
  while (replica.samples.length > 1 && replica.samples[0].at < now - PAST) replica.samples.shift();
  for (const peer of peersOf(replica)) {
    const other = replicaOf(replica.group, peer.replica);
    if (other) heardRoot(other, peer.root, Date.parse(peer.cut));
  }
}

async function askStatus(replica) {
  replica.askedAt = performance.now();
  try {
    take(replica, await ask(replica, "status"));
  } catch (error) {
    replica.failure = error.message;
  }
}

/** Asks which replicas there are by what all answer in few bytes. */
async function discover() {
  const answers = await query("/@mst/2/*/*/control/scrub");
  for (const answer of answers) if (answer.key !== "ERROR") replicaOfKey(answer.key);
}

/** One round of questions: the chosen one, and of the others those that were not asked for longest. */
async function askAround() {
  const others = [...replicas.values()].filter((replica) => replica !== chosen);
  others.sort((a, b) => a.askedAt - b.askedAt);
  const asked = [chosen, ...others.slice(0, OTHERS_AT_ONCE)].filter(Boolean);
  // Two at a time.
  const next = async () => {
    for (let replica = asked.shift(); replica; replica = asked.shift()) await askStatus(replica);
  };
  await Promise.all([next(), next()]);
}

/** What the chosen one, or another of the group if it is of another one, says of a replica. */
function opinionOn(replica) {
  if (replica.status && !replica.status.replication) return { text: "not replicated", relation: "" };
  const ofGroup = (one) => one?.group === replica.group && one.status;
  const viewer = ofGroup(chosen) ? chosen : [...replicas.values()].find((one) => ofGroup(one) && one.status.replication);
  if (!viewer) return { text: "" };
  if (viewer === replica) return { text: "sees the others", relation: "" };
  const peer = peersOf(viewer).find((one) => one.replica === replica.name);
  if (!peer) return { text: `not known to ${short(viewer.name)}`, relation: "unknown" };
  const parts = [`${peer.relation} for ${sinceThen(peer.since)}`];
  if (peer.relation !== "equal" && peer.last_equal) parts.push(`last equal ${sinceThen(peer.last_equal)} ago`);
  if (!peer.present) parts.push("cannot be reached");
  if (peer.reason) parts.push(peer.reason);
  if (viewer !== chosen) parts.push(`by ${short(viewer.name)}`);
  return { text: parts.join(", "), relation: peer.present ? peer.relation : "bad", peer };
}

function rowOf(replica) {
  const cell = (label) => element("td", { "data-label": label });
  const [who, root, keys, cells, waiting, relation, asked] = ["Replica", "Root", "Keys", "Cells", "Waiting", "Seen", "Asked"].map(cell);
  const choose = element("button", { type: "button", onclick: () => chooseReplica(replica) });
  who.append(choose);
  const square = swatch();
  const hash = element("code");
  root.append(square, hash);
  const row = element("tr", {}, who, root, keys, cells, waiting, relation, asked);
  return { row, choose, square, hash, keys, cells, waiting, relation, asked };
}

function drawRow(replica) {
  const parts = (replica.parts ??= rowOf(replica));
  const { status } = replica;
  show(parts.choose, `${replica.keyExpr} ${short(replica.name)}${status ? ` ${status.name}` : ""}`);
  parts.choose.setAttribute("aria-pressed", replica === chosen);
  const root = rootOf(replica);
  show(parts.hash, root ? short(root) : "not known");
  if (root) paint(parts.square, root);
  show(parts.keys, count(status?.keys));
  const peer = opinionOn(replica);
  show(parts.cells, count(status?.cells ?? peer.peer?.cells ?? undefined));
  const queues = status?.queues;
  show(parts.waiting, queues ? count(queues.uncommitted + queues.unsettled) : "");
  show(parts.relation, peer.text);
  parts.relation.className = peer.relation ?? "";
  const trouble = replica.failure ?? status?.failure;
  show(parts.asked, trouble ?? (replica.statusAt ? `${span(performance.now() - replica.statusAt)} ago` : "not yet"));
  parts.asked.className = trouble ? "bad" : "";
  return parts.row;
}

function drawFleet() {
  const sorted = [...replicas.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const body = byId("replicas");
  sorted.forEach((replica, place) => {
    const row = drawRow(replica);
    if (body.children[place] !== row) body.insertBefore(row, body.children[place] ?? null);
  });
  const groups = new Map();
  for (const replica of sorted) {
    const roots = groups.get(replica.group) ?? new Set();
    groups.set(replica.group, roots.add(rootOf(replica)));
  }
  const same = [...groups.values()].filter((roots) => roots.size === 1 && !roots.has(undefined)).length;
  show(byId("summary"), `${sorted.length} replicas, ${groups.size} groups, ${same} of them with one root`);
  show(byId("chosen"), chosen ? `${chosen.keyExpr} · ${chosen.name}${chosen.status ? ` · ${chosen.status.name}` : ""}` : "no replica answers");
  drawDetails();
}

/** The last writes that the storage refused, the newest first: a few of those that it knows. */
function lastRefused(status) {
  const shown = status.refused.slice(-REFUSED_SHOWN).reverse();
  const texts = shown.map(({ key, at, reason }) => `${key}, ${sinceThen(at)} ago: ${reason}`);
  return `${count(status.counters.refused)}${texts.length ? `, the last: ${texts.join(" · ")}` : ""}`;
}

/** What fades, and what holds it. */
function fading({ patterns, cells, expired, held_seconds: held }) {
  if (!patterns) return "none";
  const text = `${count(patterns)} key expressions, ${count(cells)} cells that have one, ${count(expired)} gone by it`;
  return held ? `${text}; held back, as the clock is ${span(1000 * held)} ahead of what confirms it` : text;
}

/** Replicas that were there, and how they are forgotten if they do not come back. */
function absent(replica) {
  const gone = peersOf(replica).filter((peer) => !peer.present);
  if (!gone.length) return "none";
  const last = (peer) => (peer.last_equal ? `, last equal ${sinceThen(peer.last_equal)} ago` : "");
  const names = gone.slice(0, PEERS_SHOWN).map((peer) => short(peer.replica) + last(peer));
  const more = gone.length > names.length ? `, and ${count(gone.length - names.length)} more` : "";
  return `${names.join("; ")}${more}. One that is gone for good: mstctl -s '${replica.keyExpr}' members forget ${gone[0].replica}`;
}

function drawDetails() {
  const status = chosen?.status;
  const rows = [];
  if (status) {
    const { replication, scrub, queues } = status;
    rows.push(
      ["Root", status.root],
      ["Cut", `${status.cut}, ${sinceThen(status.cut)} ago`],
      ["Keys, cells, tombstones", `${count(status.keys)}, ${count(status.cells)}, ${count(status.tombstones)}`],
      ["Wildcard rules", count(status.wildcard_rules)],
      ["On disk", status.disk_bytes === null ? "in memory" : `${count(Math.round(status.disk_bytes / 1024))} KiB`],
      ["Waiting", `${count(queues.uncommitted)} for the disk, ${count(queues.unsettled)} to settle`],
      ["Refused writes", lastRefused(status)],
      ["Lifetimes", fading(status.lifetimes)],
      ["Scrub", `${scrub.state}, ${count(scrub.pass.checked)} of ${count(scrub.pass.of)}; damaged ${count(scrub.damaged_cells)}, in quarantine ${count(scrub.quarantined.length)}`],
    );
    if (replication) {
      const { pulls, rejected } = replication;
      const refused = Object.entries(rejected).filter(([, number]) => number).map(([why, number]) => `${why} ${number}`);
      rows.push(
        ["Pulls", `${count(pulls.completed)} completed, ${count(pulls.failed)} failed, ${count(pulls.cells_received)} cells, ${count(Math.round(pulls.bytes_received / 1024))} KiB`],
        ["Rejected", refused.join(", ") || "nothing"],
      );
      const waits = peersOf(chosen).filter((peer) => peer.relation !== "equal");
      rows.push(["Absent members", absent(chosen)]);
      rows.push(["Not equal to", waits.slice(0, PEERS_SHOWN).map((peer) => `${short(peer.replica)} (${peer.relation} for ${sinceThen(peer.since)})`).join(", ") || "none"]);
    }
    if (status.failure) rows.push(["Failure", status.failure]);
  } else if (chosen) {
    rows.push(["Status", chosen.failure ?? "asked"]);
  }
  const list = byId("details");
  const terms = rows.map(([term]) => term).join("\n");
  if (list.dataset.terms !== terms) {
    list.dataset.terms = terms;
    list.replaceChildren(...rows.flatMap(([term]) => [element("dt", {}, term), element("dd", {})]));
  }
  rows.forEach(([, text], place) => show(list.children[2 * place + 1], text));
}

/** A number of seven bits a byte, the lowest first; and where it ends. */
function numberAt(bytes, at) {
  let [number, scale] = [0, 1];
  for (; bytes[at] & 128; at++, scale *= 128) number += (bytes[at] & 127) * scale;
  return [number + bytes[at] * scale, at + 1];
}

/** What an announcement says: docs/replication.md, "Announcement". Nothing if it is none. */
function readAnnouncement(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  if (bytes.length < 72 || bytes[0] !== 2 || bytes[1] !== 1) return undefined;
  const seconds = new DataView(bytes.buffer).getUint32(30);
  const [, at] = numberAt(bytes, 38);
  return { root: hexOf(bytes.subarray(at, at + 32)), cut: seconds * 1000 };
}

let source;
let sourceTimer;

/** Listens to announcements, while the page is seen and for a limited time. */
function listen(isWanted) {
  source?.close();
  clearTimeout(sourceTimer);
  source = undefined;
  if (!isWanted || document.hidden) return;
  source = new EventSource("/@mst/2/*/*/root");
  source.addEventListener("PUT", (event) => {
    const { key, value } = JSON.parse(event.data);
    const [replica, announced] = [replicaOfKey(key), readAnnouncement(value)];
    if (!replica || !announced) return;
    heardRoot(replica, announced.root, announced.cut);
    if (!byId("fleet").hidden) drawRow(replica);
  });
  sourceTimer = setTimeout(() => {
    byId("live").checked = false;
    listen(false);
    say("Announcements are no longer listened to, after ten minutes; polling goes on.");
  }, LISTENED_FOR);
}
