// Opens documents, merges and edits them as an application does, and says what came of
// it. A request is a line of JSON on the standard input:
//
//   documents  what Automerge saved, in base64; none begins a new document
//   changes    changes to apply to it, in base64
//   actor      who edits
//   edits      lists of an operation, a path, and what the operation takes; each of them
//              is a change of its own
//
// The answer is a line on the standard output: the whole document; the changes that the
// edits made, each of its own and all in one as an incremental save; the document as JSON.
// Or, as `error`, why Automerge cannot do that.

import { createInterface } from "node:readline";
import * as A from "@automerge/automerge";

const OPERATIONS = {
  put: (parent, name, value) => { parent[name] = value; },
  counter: (parent, name, value) => { parent[name] = new A.Counter(value); },
  increment: (parent, name, by) => { parent[name].increment(by); },
  remove: (parent, name) => { delete parent[name]; },
  push: (parent, name, value) => { parent[name].push(value); },
};

function edit(document, [operation, path, ...values]) {
  return A.change(document, (draft) => {
    if (operation === "splice") {
      A.splice(draft, path, ...values);
      return;
    }
    const parent = path.slice(0, -1).reduce((place, name) => place[name], draft);
    OPERATIONS[operation](parent, path.at(-1), ...values);
  });
}

const decode = (text) => new Uint8Array(Buffer.from(text, "base64"));
const encode = (bytes) => Buffer.from(bytes).toString("base64");

function answer({ documents, changes, actor, edits }) {
  let document = A.init(actor);
  for (const saved of documents) {
    document = A.merge(document, A.load(decode(saved)));
  }
  [document] = A.applyChanges(document, changes.map(decode));
  const before = A.clone(document);
  const heads = A.getHeads(document);
  for (const one of edits) {
    document = edit(document, one);
  }
  return {
    document: encode(A.save(document)),
    changes: A.getChanges(before, document).map(encode),
    incremental: encode(A.saveSince(document, heads)),
    json: document,
  };
}

for await (const line of createInterface({ input: process.stdin })) {
  let answered;
  try {
    answered = answer(JSON.parse(line));
  } catch (error) {
    answered = { error: String(error) };
  }
  console.log(JSON.stringify(answered));
}
