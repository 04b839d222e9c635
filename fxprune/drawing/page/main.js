// What buttons, keys and pointers do; and the beginning.

const TWICE = 500; // Milliseconds: a double click on the head of a box is one click.

const page = new Page(JSON.parse(document.getElementById('data').textContent));

/** What buttons and keys do. */
const ACTIONS = {
  zoomIn: () => page.view.zoom(1.25),
  zoomOut: () => page.view.zoom(0.8),
  fit: () => page.view.fit(page.drawing.places.bounds),
  expandAll: () => page.openOnly(page.root.boxes()),
  collapseAll: () => page.openOnly([]),
  theme() {
    const { dataset } = document.documentElement;
    const { matches } = matchMedia('(prefers-color-scheme: dark)');
    const isDark = dataset.theme ? dataset.theme === 'dark' : matches;
    dataset.theme = isDark ? 'light' : 'dark';
  },
  search: () => page.search.field.focus(),
  less: () => page.slider.step(-1),
  more: () => page.slider.step(1),
  group() {
    const group = page.selected ? groupOf(page.selected) : -1;
    if (group >= 0) {
      page.light(group);
    }
  },
  clear() {
    page.lit = null;
    page.select(null);
    page.groupList.show();
  },
};
const BY_KEY = {
  '+': 'zoomIn', '=': 'zoomIn', '-': 'zoomOut', f: 'fit', e: 'expandAll', c: 'collapseAll',
  d: 'theme', '/': 'search', '[': 'less', ']': 'more', g: 'group', Escape: 'clear',
};

/** The node, the open box or the closed box that an event is about. */
function target(event) {
  const element = event.target.closest('[data-id]');
  if (!element) {
    return [null, null];
  }
  const drawn = [...page.drawing.items.keys(), ...page.drawing.clusters.keys()];
  return [drawn.find(({ id }) => id === element.dataset.id), element];
}

function onKey(event) {
  const isField = event.target.closest('input, summary, button');
  if (event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  if (event.key in BY_KEY) {
    if (!event.target.closest('input[type=search]')) {
      event.preventDefault();
      ACTIONS[BY_KEY[event.key]]();
    }
  } else if (event.key === 'Enter' && !isField && page.selected instanceof Box) {
    page.toggle(page.selected);
  } else if (event.key.startsWith('Arrow') && !isField) {
    event.preventDefault();
    arrow(event.key);
  }
}

/** To the next item; without one that is selected, or with none there, the picture moves. */
function arrow(key) {
  const seen = page.selected && page.drawing.items.has(page.selected);
  const next = seen ? page.neighbour(key) : null;
  if (next) {
    page.select(next);
    page.view.centre(page.drawing.places.rectangles.get(next.id));
  } else if (!seen && (key === 'ArrowDown' || key === 'ArrowUp')) {
    page.goTo(page.seen.items[0]);
  } else if (!seen) {
    page.view.pan(key === 'ArrowLeft' ? 60 : -60, 0);
  }
}

const canvas = document.getElementById('canvas');
canvas.addEventListener('click', (event) => {
  if (page.view.wasDragged) {
    return;
  }
  const [item, element] = target(event);
  if (element && element.classList.contains('cluster') && event.target.closest('.header, text')) {
    page.toggle(item);
  } else if (event.target.closest('.sign')) {
    page.toggle(item);
  } else {
    page.select(item);
  }
});
canvas.addEventListener('dblclick', (event) => {
  const [item] = target(event);
  if (item instanceof Box && performance.now() - page.toggled > TWICE) {
    page.toggle(item);
  }
});
document.getElementById('tools').addEventListener('click', (event) => {
  const button = event.target.closest('[data-do]');
  if (button) {
    ACTIONS[button.dataset.do]();
  }
});
document.addEventListener('keydown', onKey);

/** How addresses name what is there, the most exact first. */
const ADDRESSES = [
  (item) => [fullName(item)],
  (item) => (item instanceof Box ? item.folds : item.data.repeats),
  (item) => (item instanceof Box ? [] : [...item.data.ops, ...item.data.paths]),
];

/** Goes to the module or node that the address names: model.html#layer3.0 */
function followAddress() {
  let name = location.hash.slice(1);
  try {
    name = decodeURIComponent(name);
  } catch {
    return; // It is no name.
  }
  const items = [...page.root.boxes(), ...page.leaves];
  const found = ADDRESSES.map((names) => items.find((each) => name && names(each).includes(name)));
  found.filter(Boolean).slice(0, 1).forEach((item) => page.goTo(item));
}
window.addEventListener('hashchange', followAddress);
window.addEventListener('resize', () => page.view.show());

document.querySelector('h1').textContent = page.data.name;
fillLegend();
page.slider.show();
page.details.show();
page.draw(({ bounds }) => page.view.fit(bounds, READABLE)).then(() => {
  page.marked.slice(0, 1).forEach((leaf) => page.goTo(leaf));
  followAddress();
});
