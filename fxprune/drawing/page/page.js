// The page: what is open, looked at and lit, and which plan is shown.

const LARGE = 400; // From so many items on, it is told that the layout takes a while.
const MOST_AT_FIRST = 26; // Items that are seen at first.

class Page {
  constructor(data) {
    this.data = data;
    this.root = treeOf(data);
    this.leaves = [];
    for (const leaf of this.root.leaves) {
      this.leaves[leaf.place] = leaf;
    }
    findWoven(this.root, data);
    colourBoxes(this.root, data, this.leaves);
    const plans = data.ratios.length + (data.planned ? 1 : 0);
    const some = [0, 1, Math.floor(data.ratios.length / 2), data.ratios.length - 1, plans - 1];
    this.samples = [...new Set(some.filter((stop) => stop < plans))];
    this.stop = data.planned ? plans - 1 : 0;
    this.marked = this.leaves.filter(isMarked);
    this.open = new Set([...opened(this.root, MOST_AT_FIRST), ...this.marked.flatMap(around)]);
    this.selected = null;
    this.lit = null;
    this.isGroupFirst = false;
    this.turn = 0; // How often it was drawn.
    this.toggled = -Infinity; // When a box was opened or closed, in milliseconds.
    this.drawing = new Drawing(this);
    const [canvas, world] = ['canvas', 'world'].map((id) => document.getElementById(id));
    this.view = new View(canvas, world, (seen) => this.drawing.spare(seen));
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
    const places = await this.placed(seen);
    if (turn !== this.turn) {
      return; // Something else was asked for meanwhile.
    }
    document.getElementById('busy').hidden = true;
    this.seen = seen;
    this.drawing.draw(seen, places);
    this.mark();
    then(places);
  }

  /** The places of what is to be seen; tells that it takes long, or that it failed. */
  async placed(seen) {
    const busy = document.getElementById('busy');
    try {
      if (seen.items.length > LARGE) {
        busy.textContent = 'laying out \u2026';
        busy.hidden = false;
        await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)));
      }
      return placed(this, seen);
    } catch (error) {
      busy.textContent = `the layout failed: ${error.message}`;
      busy.hidden = false;
      throw error;
    }
  }

  mark() {
    const { selected, lit, data } = this;
    this.drawing.select(selected);
    const leaves = lit === null ? null : new Set(this.leavesOf(lit));
    this.drawing.light(leaves, ({ carries }) =>
      carries.some((value) => data.values[value][2].includes(lit)));
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

  /** Where an item is; of an open box without a frame, what is in it and comes first. */
  rectangleOf(item) {
    const { rectangles, bounds } = this.drawing.places;
    const items = [...this.drawing.items.keys()];
    const first = items.find((each) => item.leaves.includes(each.leaves[0]));
    return rectangles.get(item.id) || (first ? rectangles.get(first.id) : bounds);
  }

  /** The middle of the upper edge of an item. */
  top(item) {
    const { x, y, width } = this.rectangleOf(item);
    return { x: x + width / 2, y };
  }

  async openOnly(boxes) {
    this.open = new Set(boxes);
    await this.draw(({ bounds }) => this.view.fit(bounds, READABLE));
  }

  /** Opens all boxes around an item, and brings it into the middle. */
  async goTo(item) {
    const closed = around(item).filter((box) => !this.open.has(box));
    closed.forEach((box) => this.open.add(box));
    if (this.lit !== null && !this.leavesOf(this.lit).some((leaf) => item.leaves.includes(leaf))) {
      this.lit = null;
      this.groupList.show();
    }
    this.selected = item;
    const show = () => this.view.centre(this.rectangleOf(item));
    const isDrawn = this.drawing.items.has(item) || this.drawing.clusters.has(item) || item.isWoven;
    if (closed.length || !isDrawn) {
      await this.draw(show);
    } else {
      show();
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
