// What can be looked for: modules, operators and groups; and the legend.

const FOUND = 40; // Hits that are shown.

/** The hits for a text, the best first: [rank, name, kind, what to do]. */
function search(page, text) {
  const wanted = text.trim().toLowerCase();
  const hits = [];
  const ask = (names, title, kind, go) => {
    const ranks = names.filter(Boolean).map((name) => rank(name.toLowerCase(), wanted));
    const best = Math.min(...ranks, Infinity);
    if (best < Infinity) {
      hits.push([best, title, kind, go]);
    }
  };
  for (const box of page.root.boxes()) {
    ask([box.path, box.kind, ...box.folds], box.path, box.kind || 'module', () => page.goTo(box));
  }
  for (const leaf of page.leaves) {
    const { path, paths, title, name, ops, operators, repeats } = leaf.data;
    const names = [path, ...paths, title, name, ...ops, ...operators, ...repeats];
    ask(names, fullName(leaf), operators.join(', ') || leaf.data.kind, () => page.goTo(leaf));
  }
  page.data.groups.forEach((group, number) =>
    ask([group.name, ...group.members], group.name, 'group', () => page.lit === number || page.light(number)));
  return wanted ? hits.sort((a, b) => a[0] - b[0]) : [];
}

/** How well a name fits: the same, its end, its beginning, or somewhere in it. */
function rank(name, wanted) {
  if (name === wanted) {
    return 0;
  }
  const place = name.indexOf(wanted);
  if (place < 0) {
    return Infinity;
  }
  return (name.endsWith(`.${wanted}`) ? 1 : 2) + (place > 0) + name.length / 1000;
}

/** The field to search in, and its list of hits. */
class Search {
  constructor(page) {
    this.page = page;
    this.field = document.getElementById('search');
    this.list = document.getElementById('found');
    this.field.addEventListener('input', () => this.show());
    this.field.addEventListener('focus', () => this.show());
    this.field.addEventListener('keydown', (event) => this.key(event));
    this.list.addEventListener('keydown', (event) => this.key(event));
  }

  show() {
    const hits = search(this.page, this.field.value);
    this.list.hidden = !this.field.value.trim();
    const entries = hits.slice(0, FOUND).map(([, name, kind, go]) => html('li', {},
      html('button', { type: 'button', on: { click: () => this.take(go) } },
        html('span', {}, name), html('small', {}, kind))));
    if (hits.length > FOUND) {
      entries.push(html('li', { class: 'hint' }, `and ${hits.length - FOUND} more`));
    }
    this.list.replaceChildren(...(entries.length ? entries : [html('li', { class: 'hint' }, 'nothing has that name')]));
  }

  take(go) {
    this.close();
    go();
  }

  close() {
    this.list.hidden = true;
    this.field.blur();
  }

  /** Up and down go through the hits, Enter takes the first, Escape ends. */
  key(event) {
    const buttons = [...this.list.querySelectorAll('button')];
    const here = buttons.indexOf(document.activeElement);
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps) {
      event.preventDefault();
      const next = here + steps[event.key];
      (buttons[Math.min(next, buttons.length - 1)] || this.field).focus();
    } else if (event.key === 'Enter' && here < 0 && buttons.length) {
      buttons[0].click();
    } else if (event.key === 'Escape') {
      this.close();
      document.getElementById('canvas').focus();
    }
    event.stopPropagation();
  }
}

/** The list of all groups, made when it is opened. */
class GroupList {
  constructor(page) {
    this.page = page;
    this.element = document.getElementById('groups');
    this.element.querySelector('summary').textContent = `Groups (${page.data.groups.length})`;
    this.element.addEventListener('toggle', () => this.show());
  }

  show() {
    if (this.element.open) {
      const { data, details } = this.page;
      const [, list] = details.list('', data.groups.map((_, number) => details.groupEntry(number)), MOST_GROUPS);
      this.element.querySelector('ul').replaceWith(list || html('ul', {}));
    }
  }
}

const LEGEND = [
  ['colour', 'nodes of one colour put out the same group of channels: they lose the same ones'],
  ['grey', 'its group has no other node'],
  ['white', 'no channels, or those of several groups'],
  ['hatched', 'its channels must stay; the panel tells why'],
  ['red border', 'here channels met what must stay'],
  ['thick red border', 'the place in question'],
  ['bar', 'its share of the parameters, as a square root; the dark part is left'],
  ['64 \u2192 32', 'sizes of the axes that carry channels, before and after'],
  ['dashed node', 'nothing is left of it'],
  ['dashed edge', 'its target reads all that its source reads, too'],
  ['double frame', 'a closed box: a module with several nodes'],
  ['\u00d74', 'drawn once for four blocks that are all the same'],
  ['dotted node', 'outside of the part that was asked for'],
];
const KEYS = [
  ['arrows', 'from node to node, or move the picture'],
  ['Enter', 'open or close a box'],
  ['+ \u2212 f', 'larger, smaller, show all'],
  ['e c', 'expand all, collapse all'],
  ['g', 'light up the group of the node'],
  ['/', 'search'],
  ['[ ]', 'smaller and larger ratio'],
  ['d', 'light or dark'],
  ['Escape', 'show all again'],
];

/** Fills the legend. */
function fillLegend() {
  const table = (rows) => html('dl', {}, ...rows.flatMap(([name, text]) => [html('dt', {}, name), html('dd', {}, text)]));
  document.querySelector('#legend div').replaceChildren(table(LEGEND), html('h3', {}, 'keys'), table(KEYS));
}
