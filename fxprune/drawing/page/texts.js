// The words of the page; as wording.py has them.

const ARROW = ' \u2192 ';
const LONGEST = 40; // Characters of a line in a node.
const LONGEST_NAME = 52;
const CONTAINERS = new Set(['Sequential', 'ModuleList', 'ModuleDict']);
const UNITS = [[1e12, 'T'], [1e9, 'G'], [1e6, 'M'], [1e3, 'k']];

/** A number in about four characters. */
function count(number) {
  for (const [unit, name] of UNITS) {
    if (number >= 0.9995 * unit) {
      return `${Number((number / unit).toPrecision(3))}${name}`;
    }
  }
  return String(number);
}

const exact = (number) => number.toLocaleString('en-US');

const percent = (part, whole) => {
  const share = whole ? part / whole : 0;
  return share >= 0.001 || share === 0 ? `${(100 * share).toFixed(1)}%` : '<0.1%';
};

/** What a series of numbers is at a plan; one number stands for many that are the same. */
const at = (series, stop) => (typeof series === 'number' ? series : series[stop]);

/** Before and after, or one of them where there is no plan. */
const change = (before, after, planned) => (planned ? `${before}${ARROW}${after}` : before);

/** A name that is not too long. */
const cut = (name) => (name.length > LONGEST_NAME ? `${name.slice(0, LONGEST_NAME - 1)}\u2026` : name);

/** Words on one line, and how many did not fit. */
function joined(words) {
  let text = words.length ? words[0] : '';
  for (let number = 1; number < words.length; number += 1) {
    if (text.length + words[number].length + 3 > LONGEST) {
      return `${text} +${words.length - number}`;
    }
    text += ` \u00b7 ${words[number]}`;
  }
  return text;
}

/** A text in lines of at most so many characters. */
function wrapped(text) {
  const lines = [''];
  for (const word of text.split(/\s+/)) {
    const last = lines[lines.length - 1];
    if (last && last.length + word.length + 1 > LONGEST) {
      lines.push(word);
    } else {
      lines[lines.length - 1] = last ? `${last} ${word}` : word;
    }
  }
  return lines;
}

/** The sizes of the axes that carry channels, before and after a plan; else the whole shape. */
function widths(value, stop) {
  const [sizes, dims] = value;
  const shown = dims.length ? dims.map((dim) => sizes[dim]) : sizes;
  const side = (plan) => shown.map((series) => at(series, plan)).join('x');
  return change(side(0), side(stop), stop > 0 && dims.length > 0);
}

/** The whole shape of a tensor, before and after a plan. */
function shape(value, stop) {
  const side = (plan) => value[0].map((series) => at(series, plan)).join('x') || 'one number';
  return change(side(0), side(stop), side(0) !== side(stop));
}

/** Kind and width of a group. */
const groupWidth = (group, stop) =>
  `${group.kind} ${change(at(group.widths, 0), at(group.widths, stop), stop > 0)}`;

/** A module's name below that of the box around it. */
const below = (path, box) =>
  (box.path && path.startsWith(`${box.path}.`) ? path.slice(box.path.length + 1) : path);

/** The name of a box, and for how many blocks it stands. */
function boxTitle(box) {
  let title = below(box.path, holder(box));
  if (box.folds.length) {
    const last = box.folds[box.folds.length - 1];
    title += ` \u2026 ${last.slice(last.lastIndexOf('.') + 1)} (\u00d7${box.folds.length})`;
  }
  return title;
}

/** What the head of an open box tells. */
function headOf(box) {
  const kind = CONTAINERS.has(box.kind) ? '' : box.kind;
  return box.parent ? `\u2212 ${boxTitle(box)}  ${kind}`.trimEnd() : '';
}

/** The name of a node below that of the box around it. */
function leafTitle(leaf) {
  const { kind, path, title, operators } = leaf.data;
  if (kind === 'op') {
    return joined(operators);
  }
  return kind === 'module' ? below(path, holder(leaf)) : title;
}

/** The whole name of a node or box. */
function fullName(item) {
  if (item instanceof Box) {
    return item.path;
  }
  const { kind, path, title, name } = item.data;
  if (kind === 'op') {
    return [path, name].filter(Boolean).join(': ');
  }
  return path || title || name;
}
