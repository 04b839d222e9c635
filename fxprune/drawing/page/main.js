// The page: what is open, looked at and lit, and which plan is shown.

const MOST_AT_FIRST = 26; // Items that are seen at first.
const TWICE = 500; // Milliseconds: a double click on the head of a box is one click.

class Page {
  constructor(data) {
    this.data = data;
    this.root = treeOf(data);
    this.leaves = [];
    for (const leaf of this.root.leaves) {
      this.leaves[leaf.place] = leaf;
    }
    colourBoxes(this.root, data, this.leaves);
    const plans = data.ratios.length + (data.planned ? 1 : 0);
    const some = [0, 1, Math.floor(data.ratios.length / 2), data.ratios.length - 1, plans - 1];
    this.samples = [...new Set(some.filter((stop) => stop < plans))];
    this.stop = data.planned ? plans - 1 : 0;
    this.open = opened(this.root, MOST_AT_FIRST);
    this.selected = null;
    this.lit = null;
    this.isGroupFirst = false;
    this.turn = 0; // How often it was drawn.
    this.toggled = -Infinity; // When a box was opened or closed, in milliseconds.
    this.drawing = new Drawing(this);
    this.view = new View(document.getElementById('canvas'), document.getElementById('world'), (seen) => this.drawing.spare(seen));
    this.details = new Details(this);
    this.slider = new Slider(this);
    this.search = new Search(this);
    this.groupList = new GroupList(this);
    this.leavesOf = this.leavesOf.bind(this);
  }

  /** The nodes that a group touches. */
  leavesOf(group) {
    return this.leaves.filter(({ data }) => data.groups.includes(group) || data.repeated.includes(group));
  }

  /** Draws what is open; `then` is called when it is there. */
  async draw(then) {
    this.turn += 1;
    const { turn } = this;
    const seen = visible(this.root, this.data, this.open);
    const busy = document.getElementById('busy');
    let places = placed(this, seen);
    if (places instanceof Promise) {
      busy.hidden = false;
      places = await places;
      if (turn !== this.turn) {
        return; // Something else was asked for meanwhile.
      }
    }
    busy.hidden = true;
    this.seen = seen;
    this.drawing.draw(seen, places);
    this.mark();
    then(places);
  }

  mark() {
    const { selected, lit, data } = this;
    this.drawing.select(selected);
    const leaves = lit === null ? null : new Set(this.leavesOf(lit));
    const places = new Set([...(leaves || [])].map(({ place }) => place));
    this.drawing.light(leaves, ({ values, ends }) =>
      values.some((value) => data.values[value][2].includes(lit)) ||
      (values.length === 0 && ends.every((both) => both.every((end) => places.has(end)))));
  }

  /** Shows the numbers after one of the plans. */
  plan(stop) {
    this.stop = stop;
    this.slider.show();
    this.drawing.refresh();
    this.details.show();
    this.groupList.show();
  }

  select(item) {
    this.selected = item;
    this.isGroupFirst = false;
    this.mark();
    this.details.show();
  }

  /** Lights up a group; null lights up nothing. */
  light(group) {
    this.lit = group === this.lit ? null : group;
    this.isGroupFirst = true;
    if (this.lit !== null) {
      const leaves = new Set(this.leavesOf(this.lit));
      const items = [...this.drawing.items.keys()];
      this.bringIntoView(items.filter((item) => item.leaves.some((leaf) => leaves.has(leaf))));
    }
    this.mark();
    this.details.show();
    this.groupList.show();
  }

  /** Pans to the first of some items if none of them is on the canvas. */
  bringIntoView(items) {
    const { width, height } = this.view.size;
    const rectangles = items.map((item) => this.drawing.places.rectangles.get(item.id));
    const isSeen = rectangles.some((each) => {
      const { x, y } = this.view.onCanvas(each);
      return x > -40 && y > -40 && x < width - 40 && y < height - 40;
    });
    if (rectangles.length && !isSeen) {
      this.view.centre(rectangles[0]);
    }
  }

  /** Opens a box or closes it; its upper edge stays where it is. */
  async toggle(box) {
    const before = this.view.onCanvas(this.top(box));
    if (this.open.has(box)) {
      this.open.delete(box);
    } else {
      this.open.add(box);
    }
    this.selected = box;
    this.isGroupFirst = false;
    this.toggled = performance.now();
    await this.draw(() => {
      const after = this.view.onCanvas(this.top(box));
      this.view.pan(before.x - after.x, before.y - after.y);
    });
    this.details.show();
  }

  /** The middle of the upper edge of an item. */
  top(item) {
    const found = this.drawing.places.rectangles.get(item.id);
    return found ? { x: found.x + found.width / 2, y: found.y } : { x: 0, y: 0 };
  }

  async openOnly(boxes) {
    this.open = new Set(boxes);
    await this.draw(({ bounds }) => this.view.fit(bounds, READABLE));
  }

  /** Opens all boxes around an item, and brings it into the middle. */
  async goTo(item) {
    const closed = around(item).filter((box) => !this.open.has(box));
    closed.forEach((box) => this.open.add(box));
    this.lit = null;
    this.selected = item;
    const show = ({ rectangles }) => this.view.centre(rectangles.get(item.id));
    if (closed.length) {
      await this.draw(show);
    } else {
      show(this.drawing.places);
    }
    this.select(item);
  }

  /** The next item along the edges, or beside. */
  neighbour(key) {
    const { edges } = this.seen;
    const { rectangles } = this.drawing.places;
    const here = this.selected;
    const found = {
      ArrowDown: () => edges.filter(({ from }) => from === here).map(({ to }) => to),
      ArrowUp: () => edges.filter(({ to }) => to === here).map(({ from }) => from),
    }[key];
    if (found) {
      return found()[0] || null;
    }
    const own = rectangles.get(here.id);
    const side = key === 'ArrowRight' ? 1 : -1;
    const beside = this.seen.items.filter((item) => {
      const other = rectangles.get(item.id);
      return side * (other.x - own.x) > 1 && Math.abs(other.y - own.y) < own.height;
    });
    const distance = (item) => Math.abs(rectangles.get(item.id).x - own.x);
    return beside.sort((a, b) => distance(a) - distance(b))[0] || null;
  }
}

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

/** Goes to the module or node that the address names: model.html#layer3.0 */
function followAddress() {
  let name = location.hash.slice(1);
  try {
    name = decodeURIComponent(name);
  } catch {
    return; // It is no name.
  }
  const items = [...page.root.boxes(), ...page.leaves];
  const item = items.find((each) => name && fullName(each) === name);
  if (item) {
    page.goTo(item);
  }
}
window.addEventListener('hashchange', followAddress);
window.addEventListener('resize', () => page.view.show());

document.querySelector('h1').textContent = page.data.name;
fillLegend();
page.slider.show();
page.details.show();
page.draw(({ bounds }) => page.view.fit(bounds, READABLE)).then(followAddress);
