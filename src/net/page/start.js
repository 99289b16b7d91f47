
// Puts the parts together.

const PARTS = ["fleet", "plots", "tree", "keys"];

function showPart(name) {
  for (const part of PARTS) byId(part).hidden = part !== name;
  for (const button of document.querySelectorAll("nav button")) {
    if (button.dataset.part === name) button.setAttribute("aria-current", "page");
    else button.removeAttribute("aria-current");
  }
  draw();
  if (name === "tree" && !branches.size) readTrees();
  if (name === "keys" && !byId("listed").children.length) search();
}

function chooseReplica(replica) {
  if (chosen === replica) return;
  chosen = replica;
  beside = undefined;
  branches.clear();
  byId("listed").replaceChildren();
  byId("opened").replaceChildren();
  openKey = undefined;
  draw();
  if (!byId("tree").hidden) readTrees();
  if (!byId("keys").hidden) search();
  if (replica) askStatus(replica).then(draw);
}

function draw() {
  drawFleet();
  drawChoice();
  if (!byId("plots").hidden) drawPlots();
}

/** The replica that this page is of, by its address; one with wildcards names none. */
function ownReplica() {
  const [, mst, version, group, name] = location.pathname.split("/").map((chunk) => decodeURIComponent(chunk));
  const isNamed = mst === "@mst" && version === "2" && group && name && !/[*$]/.test(group + name);
  return isNamed ? replicaOf(group, name) : undefined;
}

/** If the address names no replica. */
function chooseAny() {
  if (!chosen) chooseReplica(replicas.values().next().value);
}

let discoveredAt = -Infinity;
let isAsking = false;

/** One round, unless the page is not seen, or the last one is not over. */
async function round() {
  if (document.hidden || isAsking) return;
  isAsking = true;
  try {
    if (performance.now() - discoveredAt > DISCOVERED_EVERY) {
      discoveredAt = performance.now();
      // It waits for the slowest replica: nobody waits for it.
      discover().then(() => {
        chooseAny();
        draw();
      }, (error) => say(`Which replicas there are is not known: ${error.message}`));
    }
    chooseAny();
    await askAround();
    draw();
  } finally {
    isAsking = false;
  }
}

for (const button of document.querySelectorAll("nav button")) {
  button.addEventListener("click", () => showPart(button.dataset.part));
}
byId("live").addEventListener("change", (event) => listen(event.target.checked));
byId("tree-again").addEventListener("click", readTrees);
byId("beside").addEventListener("change", (event) => {
  beside = event.target.value ? replicaOf(chosen.group, event.target.value) : undefined;
  readTrees();
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  search();
});
byId("earlier").addEventListener("click", () => turn(false));
byId("later").addEventListener("click", () => turn(true));
document.addEventListener("visibilitychange", () => {
  listen(byId("live").checked);
  round();
});
// Whoever leaves the page stops listening, even if the browser keeps the page for coming back.
addEventListener("pagehide", () => listen(false));
addEventListener("pageshow", () => listen(byId("live").checked));

chooseReplica(ownReplica());
setInterval(round, EVERY);
round();
