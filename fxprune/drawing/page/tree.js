// The model as a tree: boxes of modules, and the nodes in them.

/** A node of the picture. `data` is what page_data.py tells of it. */
class Leaf {
  constructor(data, place) {
    this.id = `n${place}`;
    this.data = data;
    this.place = place;
    this.parent = null;
    this.leaves = [this];
    this.times = 1; // How often it is in the model: a folded block is drawn once.
  }
}

/** A module that holds several nodes or boxes. */
class Box {
  constructor(path) {
    this.id = `b${path}`;
    this.path = path;
    this.parent = null;
    this.kids = [];
    this.leaves = [];
    this.folds = [];
    this.kind = '';
    this.isWoven = false; // Whether data leaves it and comes back: then no frame can be around it.
    this.group = -1;
    this.times = 1; // How often it is in the model, its own repeats left out.
  }

  /** The boxes in it, however deep. */
  * boxes() {
    for (const kid of this.kids) {
      if (kid instanceof Box) {
        yield kid;
        yield* kid.boxes();
      }
    }
  }
}

/** The root of the tree. A box that would hold a single node or box is left out. */
function treeOf(data) {
  const boxes = new Map([['', new Box('')]]);
  const [folds, modules] = [data.folds, data.modules].map((names) => new Map(Object.entries(names)));
  const boxOf = (path) => {
    if (!boxes.has(path)) {
      const box = new Box(path);
      box.folds = folds.get(path) || [];
      box.kind = modules.get(path) || '';
      boxes.set(path, box);
      boxOf(path.slice(0, Math.max(0, path.lastIndexOf('.')))).kids.push(box);
    }
    return boxes.get(path);
  };
  data.nodes.forEach((node, place) => boxOf(node.parent).kids.push(new Leaf(node, place)));
  return settled(boxes.get(''), 1);
}

/** A box of which all boxes have several kids; tells each node how often it is there. */
function settled(box, times) {
  const inside = times * Math.max(1, box.folds.length);
  box.times = times;
  box.kids = box.kids.map((kid) => {
    if (kid instanceof Leaf) {
      kid.times = inside;
      return kid;
    }
    settled(kid, inside);
    return kid.kids.length === 1 && !kid.folds.length ? kid.kids[0] : kid;
  });
  for (const kid of box.kids) {
    kid.parent = box;
  }
  box.leaves = box.kids.flatMap((kid) => kid.leaves);
  return box;
}

/** The boxes around a node or box, the innermost first, without the root. */
function around(item) {
  const found = [];
  for (let box = item.parent; box.parent; box = box.parent) {
    found.push(box);
  }
  return found;
}

/** The box in whose frame an item is drawn. */
function holder(item) {
  let box = item.parent;
  while (box.isWoven) {
    box = box.parent;
  }
  return box;
}

/** Tells the boxes that data leaves and comes back to, by way of what is not in them. */
function findWoven(root, data) {
  const next = data.nodes.map(() => []);
  data.edges.forEach(([source, target]) => next[source].push(target));
  for (const box of root.boxes()) {
    const inside = new Set(box.leaves.map(({ place }) => place));
    const seen = new Set();
    const queue = [...inside].flatMap((place) => next[place].filter((to) => !inside.has(to)));
    while (queue.length && !box.isWoven) {
      const place = queue.pop();
      if (!seen.has(place)) {
        seen.add(place);
        queue.push(...next[place]);
        box.isWoven = inside.has(place);
      }
    }
  }
}

/** Gives every box the one group of channels that it puts out; -1 if there are several, or none. */
function colourBoxes(root, data, leaves) {
  const found = new Map();
  for (const [source, target, values] of data.edges) {
    const groups = values.filter((v) => data.values[v][1].length).map((v) => data.values[v][3]);
    const inside = new Set(around(leaves[target]));
    for (const box of around(leaves[source]).filter((each) => !inside.has(each))) {
      found.set(box, [...(found.get(box) || []), ...groups]);
    }
  }
  for (const box of root.boxes()) {
    const groups = new Set(found.get(box) || []);
    box.group = groups.size === 1 ? [...groups][0] : -1;
  }
}
