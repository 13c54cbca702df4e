// The checks of task.toml that promptfoo has no assertion for, as its custom assertions; the means that promptfoo_run.js
// prints show whether their verdicts are ours.
const FIELDS = ["company", "date", "address", "total"];

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function numberOf(text) {
  const found = text.match(/-?\d+(?:,\d{3})*(?:\.\d+)?/g);
  return found ? Number(found[found.length - 1].replaceAll(",", "")) : null;
}

function plainWords(text) {
  const plain = text.toLowerCase().replace(/[!-/:-@[-`{-~]/g, "");
  return plain.replace(/\b(a|an|the)\b/g, " ").split(/\s+/).filter(Boolean);
}

function fieldF1(a, b) {
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!isObject(a) || !isObject(b)) return 0;
  const text = (value) => String(value).toLowerCase().split(/\s+/).join(" ");
  const hits = FIELDS.filter((name) => name in a && text(a[name]) === text(b[name])).length;
  return (2 * hits) / (Object.keys(a).length + Object.keys(b).length);
}

function tokenF1(a, b) {
  const [x, y] = [plainWords(a), plainWords(b)];
  if (!x.length || !y.length) return x.length === y.length ? 1 : 0;
  const counts = new Map();
  for (const word of y) counts.set(word, (counts.get(word) ?? 0) + 1);
  let same = 0;
  for (const word of x) {
    const left = counts.get(word) ?? 0;
    if (left > 0) {
      same += 1;
      counts.set(word, left - 1);
    }
  }
  return (2 * same) / (x.length + y.length);
}

function rougeL(a, b) {
  const words = (text) => text.toLowerCase().split(/[^a-z0-9]+/).filter(Boolean);
  const [x, y] = [words(a), words(b)];
  if (!x.length || !y.length) return 0;
  let row = new Array(y.length + 1).fill(0);
  for (const word of x) {
    let corner = 0;
    for (let j = 1; j <= y.length; j += 1) {
      const above = row[j];
      row[j] = word === y[j - 1] ? corner + 1 : Math.max(above, row[j - 1]);
      corner = above;
    }
  }
  return (2 * row[y.length]) / (x.length + y.length);
}

const score = (value) => ({ pass: value >= 1, score: Number(value), reason: "" });
const number = (output, { vars }) => {
  const [a, b] = [numberOf(output), numberOf(vars.expected)];
  return score(a !== null && b !== null && Math.abs(a - b) <= 0.01 * Math.abs(b) ? 1 : 0);
};
const length = (output) => score(output.split(/\s+/).filter(Boolean).length <= 60 ? 1 : 0);
const fields = (output, { vars }) => score(fieldF1(parsed(output), parsed(vars.expected)));
const token_f1 = (output, { vars }) => score(tokenF1(output, vars.expected));
const rouge_l = (output, { vars }) => score(rougeL(output, vars.expected));

module.exports = { number, length, fields, token_f1, rouge_l };
