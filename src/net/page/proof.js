
// Proofs, checked here and not by who made them. docs/formats.md says what they are.

const MAX_PROOF_BYTES = 1 << 24;
const MAX_PROOF_DEPTH = 256;
const MAX_PROOF_KEY = 60000;

/**
 * SHA-256 without WebCrypto, which browsers give only to pages of this machine or by HTTPS.
 */
function ownSha256(message) {
  const constants = ownSha256.constants ??= roundConstants();
  const state = Int32Array.from(constants.initial);
  const length = (((message.length + 8) >> 6) + 1) << 6;
  const padded = new Uint8Array(length);
  padded.set(message);
  padded[message.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(length - 8, Math.floor(message.length / 2 ** 29));
  view.setUint32(length - 4, (message.length << 3) >>> 0);
  const words = new Int32Array(64);
  const rotated = (word, by) => (word >>> by) | (word << (32 - by));
  for (let block = 0; block < length; block += 64) {
    for (let i = 0; i < 64; i++) {
      if (i < 16) {
        words[i] = view.getInt32(block + 4 * i);
        continue;
      }
      const [a, b] = [words[i - 15], words[i - 2]];
      words[i] = words[i - 16] + words[i - 7]
        + (rotated(a, 7) ^ rotated(a, 18) ^ (a >>> 3)) + (rotated(b, 17) ^ rotated(b, 19) ^ (b >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let i = 0; i < 64; i++) {
      const first = (h + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) + ((e & f) ^ (~e & g)) + constants.rounds[i] + words[i]) | 0;
      const second = ((rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(first + second) | 0, a, b, c, (d + first) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((word, i) => { state[i] += word; });
  }
  const hash = new DataView(new ArrayBuffer(32));
  state.forEach((word, i) => hash.setInt32(4 * i, word));
  return new Uint8Array(hash.buffer);
}

/** Fractions of the square and cube roots of the first primes, as exact integers. */
function roundConstants() {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((prime) => n % prime)) primes.push(n);
  const fraction = (prime, power) => {
    // The largest number whose power is at most that of the root with 32 bits of fraction.
    const target = BigInt(prime) << BigInt(32 * power);
    let root = 0n;
    for (let bit = 1n << 40n; bit; bit >>= 1n) if ((root + bit) ** BigInt(power) <= target) root += bit;
    return Number(BigInt.asIntN(32, root));
  };
  return {
    initial: primes.slice(0, 8).map((prime) => fraction(prime, 2)),
    rounds: primes.map((prime) => fraction(prime, 3)),
  };
}

async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return ownSha256(bytes);
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

const hashOf = (tag, ...pieces) => sha256(joined([bytesOf(tag), ...pieces]));

/** A number in so many bytes, the highest first. */
const numberIn = (number, length) =>
  Uint8Array.from({ length }, (_, place) => Math.floor(number / 256 ** (length - 1 - place)) % 256);

/** The canonical bytes of a key, which is relative to the storage's prefix; empty for the prefix itself. */
function canonicalKey(key) {
  if (!key) return Uint8Array.of(0);
  const escaped = Array.from(bytesOf(key)).flatMap((byte) => (byte === 0 ? [0, 255] : [byte]));
  return Uint8Array.from([1, ...escaped, 0, 1]);
}

const holds = (condition, why) => {
  if (!condition) throw new Error(why);
};

function compareBytes(a, b) {
  const until = Math.min(a.length, b.length);
  for (let i = 0; i < until; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

/**
 * Reads a proof of a key, given by its canonical bytes. Tells the root that it is against, and the
 * cells that the tree under this root has of the key.
 */
async function readProof(data, key) {
  holds(data.length <= MAX_PROOF_BYTES, "it has too many bytes");
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  let [at, keyBytes] = [0, 0];
  const cells = [];
  // What is in the tree, in order: "h" hidden, "<" a cell below the key, "o" the key's own cell, "p"
  // another one of it, ">" a cell above.
  let order = "";

  const take = (length) => {
    holds(length <= data.length - at, "it ends too early");
    at += length;
    return data.subarray(at - length, at);
  };
  const number = (length, most) => {
    const read = take(length).reduce((sum, byte) => sum * 256 + byte, 0);
    holds(most === undefined || read <= most, "a number is too large");
    return read;
  };
  const hidden = () => {
    order += "h";
    return take(32);
  };
  const isOpenFor = (start) => /[^h]/.test(order.slice(start));

  /** What a node's hash covers of a child, whose level is below `above`. */
  const child = async (what, above, depth) => {
    holds(what <= 2, "unknown flags");
    if (what === 0) return Uint8Array.of(0);
    return joined([Uint8Array.of(1), what === 1 ? hidden() : await node(above, depth + 1)]);
  };
  const node = async (above, depth) => {
    const start = order.length;
    const [level, entries] = [take(2), number(1, 128)];
    holds(compareBytes(level, above) < 0 && depth <= MAX_PROOF_DEPTH, "a node is on a wrong level, or too deep");
    const before = await child(number(1), level, depth);
    const [first, open, groups] = [number(1), number(1), Math.floor((entries + 3) / 4)];
    holds(entries && first + open <= groups && (open || !first), "groups are missing");
    /** The hash of the groups from `place` on, as many as have room. */
    const fork = async (place, room) => {
      if (place >= first + open || place + room <= first) return hidden();
      if (room === 1) return group(Math.min(4, entries - 4 * place), level, depth);
      const parts = [];
      for (let part = place; part < Math.min(place + room, groups); part += room / 4) parts.push(await fork(part, room / 4));
      return hashOf("mst1fork", ...parts);
    };
    const top = await fork(0, [1, 4, 16, 64].find((room) => room >= groups));
    holds(isOpenFor(start), "a node is open for nothing");
    return hashOf("mst1node", level, numberIn(entries, 4), before, top);
  };
  const group = async (entries, level, depth) => {
    const start = order.length;
    const items = [];
    for (let i = 0; i < entries; i++) {
      const flags = number(1);
      items.push(flags & 4 ? await cell(level[0]) : hidden());
      items.push(await child(flags & ~4, level, depth));
    }
    holds(isOpenFor(start), "a group is open for nothing");
    return hashOf("mst1grup", ...items);
  };
  const cell = async (digit) => {
    const common = number(2, key.length);
    const further = take(number(2));
    const own = joined([key.subarray(0, common), further]);
    const start = at;
    const time = view.getBigUint64(at, false);
    take(8);
    const id = take(16);
    let value;
    if (number(1, 1)) {
      const encoding = number(2);
      const flags = number(1, 3);
      const schema = flags & 1 ? take(number(4)) : undefined;
      if (flags & 2) take(number(4));
      value = { encoding, schema: schema && textOf(schema), length: number(8), hash: hexOf(take(32)) };
    }
    const outline = data.subarray(start, at);
    keyBytes += own.length;
    holds(id.some((byte) => byte) && keyBytes <= MAX_PROOF_BYTES, "a stamp without an ID, or too long keys");
    if (common === key.length) {
      order += further.length ? "p" : "o";
      const name = hexOf(id.slice().reverse()).replace(/^0+/, "");
      cells.push({ part: hexOf(further), timestamp: `${time}/${name}`, value });
    } else {
      holds(further[0] !== key[common], "a key has more in common");
      order += compareBytes(own, key) < 0 ? "<" : ">";
    }
    const position = hexOf(await hashOf("mst1posn", own));
    holds(position.search(/[^0]|$/) === digit, "a cell is on a wrong level");
    return hashOf("mst1cell", numberIn(own.length, 4), own, outline);
  };

  holds(number(1) === 1, "it is of another version");
  holds(compareBytes(take(number(2, MAX_PROOF_KEY)), key) === 0, "it is of another key");
  const topmost = (await child(number(1), Uint8Array.of(65, 0), 0)).subarray(1);
  const root = topmost.length ? topmost : await hashOf("mst1none");
  holds(at === data.length, "there are bytes after its end");
  // Nothing is hidden where the key could have a cell.
  holds(/^(h*<p*|h*op*|p*)(>h*)?$/.test(order), "it hides what could be the key's, or shows more than it has to");
  holds(cells.every((one, i) => !i || cells[i - 1].part < one.part), "its cells do not ascend");
  return { root: hexOf(root), cells };
}

/** As `readProof`, and it has to be against this root. */
async function verifyProof(data, key, root) {
  const proven = await readProof(data, key);
  holds(proven.root === root, `it is against the root ${proven.root}`);
  return proven;
}
