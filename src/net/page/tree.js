
// The tree, node by node; and that of another replica beside it.

/** The most nodes that are open at a time: each is a question to each replica. */
const MOST_OPEN = 200;

/** The open nodes, by their bounds; and what each replica has there. */
const branches = new Map();
let beside;

const idOfBounds = (low, high) => `${low ?? ""}-${high ?? ""}`;

async function readBranch(replica, low, high) {
  const parameters = [["low", low], ["high", high]].filter(([, bound]) => bound).map((pair) => pair.join("="));
  return ask(replica, parameters.length ? `tree?${parameters.join(";")}` : "tree");
}

/** Opens what is between two bounds, in both trees. */
async function openBranch(low, high) {
  const id = idOfBounds(low, high);
  if (branches.size >= MOST_OPEN) return say(`${MOST_OPEN} nodes are open: close some first.`);
  const branch = { low, high, sides: [] };
  branches.set(id, branch);
  const sides = [chosen, beside].filter(Boolean);
  branch.sides = await Promise.all(sides.map((replica) => readBranch(replica, low, high).catch((error) => ({ error: error.message }))));
  drawTrees();
}

function openOrClose(low, high) {
  const id = idOfBounds(low, high);
  if (branches.delete(id)) return drawTrees();
  return openBranch(low, high);
}

/** Reads the topmost nodes anew, and nothing below them. */
async function readTrees() {
  branches.clear();
  if (chosen) await openBranch();
}

/** The hashes and digests of a node: what is not among those of the other one differs. */
function namesIn(side) {
  const node = side?.node;
  if (!node) return new Set();
  return new Set([node.hash, ...node.entries.map((entry) => entry.digest), ...node.children.map((child) => child.hash)]);
}

function drawEntry(entry, others) {
  const name = entry.key ?? "(no key)";
  const differs = others && !others.has(entry.digest);
  const kind = ["key", entry.deleted && "deleted", differs && "differs"].filter(Boolean).join(" ");
  const part = entry.part ? ` part ${entry.part.slice(0, 40)}` : "";
  const title = `${name}${part}, ${timeOf(entry.timestamp)}, ${entry.digest}${differs ? ", differs" : ""}`;
  return element("span", { class: kind, title }, name.slice(0, 120), entry.part ? "·" : undefined);
}

function drawChild(child, others, side, column) {
  const open = branches.has(idOfBounds(child.low, child.high));
  const differs = others && !others.has(child.hash);
  const cells = `${child.all ? "" : "more than "}${count(child.cells)}`;
  const made = element("button", {
    type: "button",
    class: differs ? "child differs" : "child",
    "aria-expanded": open,
    title: child.hash,
    "data-focus": `${column} ${idOfBounds(child.low, child.high)}`,
    onclick: () => openOrClose(child.low, child.high),
  }, `${open ? "▾" : "▸"} ${cells}${differs ? " ≠" : ""}`);
  made.setAttribute("aria-label", `subtree of ${cells} cells${differs ? ", differs" : ""}`);
  const square = swatch(child.hash);
  made.prepend(square);
  if (!open) return [made];
  const below = drawBranch(child.low, child.high, column);
  return [made, element("div", { class: "below" }, below)];
}

/** What one of the replicas has between two bounds. */
function drawBranch(low, high, column) {
  const branch = branches.get(idOfBounds(low, high));
  const side = branch?.sides[column];
  if (!side) return element("p", {}, "asked");
  if (side.error) return element("p", { class: "bad" }, side.error);
  const other = branch.sides[1 - column];
  const isSame = other && !other.error ? other.node?.hash === side.node?.hash : undefined;
  const kind = isSame === undefined ? "node" : `node ${isSame ? "same" : "other"}`;
  if (!side.node) return element("div", { class: kind }, "nothing here");
  const { node } = side;
  const others = isSame === false ? namesIn(other) : undefined;
  const row = element("div", { class: "row" });
  const children = new Map(node.children.map((child) => [child.place, child]));
  for (let place = 0; place <= node.entries.length; place++) {
    const child = children.get(place);
    if (child) row.append(...drawChild(child, others, side, column));
    if (place < node.entries.length) row.append(drawEntry(node.entries[place], others));
  }
  const rest = node.count - node.entries.length;
  const words = [
    `level ${node.level[0]}${node.level[1] ? `, rank ${node.level[1]}` : ""}`,
    `${count(node.count)} entries${rest ? `, ${count(rest)} of them not shown` : ""}`,
    short(node.hash),
    isSame === undefined ? "" : isSame ? "the same in both, with all below" : "differs",
  ];
  return element("div", { class: kind }, element("p", {}, swatch(node.hash), words.filter(Boolean).join(" · ")), row);
}

function drawTrees() {
  const place = byId("trees");
  const focused = document.activeElement?.dataset?.focus;
  const sides = [chosen, beside].filter(Boolean);
  place.className = sides.length > 1 ? "trees two" : "trees";
  place.replaceChildren(...sides.map((replica, column) => {
    const side = branches.get(idOfBounds())?.sides[column];
    const title = `${short(replica.name)}${side?.root ? ` · root ${short(side.root)}` : ""}`;
    return element("div", {}, element("h2", {}, swatch(side?.root), title), drawBranch(undefined, undefined, column));
  }));
  if (focused) place.querySelector(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
}

/** The replicas that can stand beside the chosen one. */
function drawChoice() {
  const choice = byId("beside");
  const others = [...replicas.values()].filter((replica) => replica !== chosen && replica.group === chosen?.group);
  const names = others.map((replica) => replica.name).join(" ");
  if (choice.dataset.names === names) return;
  choice.dataset.names = names;
  if (!others.includes(beside)) beside = undefined;
  choice.replaceChildren(
    element("option", { value: "" }, "nothing"),
    ...others.map((replica) => element("option", { value: replica.name }, `${short(replica.name)} ${replica.status?.name ?? ""}`)),
  );
  choice.value = beside?.name ?? "";
}
