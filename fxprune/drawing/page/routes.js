// Which way edges take: box by box. What an item puts out enters and leaves a box at one place.

/** The inside of an open box: what is laid out in it as one graph. */
class Level {
  constructor(box, kids) {
    this.box = box;
    this.kids = kids;
    this.segments = new Map();
    this.ports = new Set();
  }

  /** The line between two items, or an item and a port at the border, in this box. */
  segment(from, to) {
    const key = `${from}\n${to}`;
    if (!this.segments.has(key)) {
      this.segments.set(key, { level: this, from, to, values: [], edges: [] });
      [from, to].filter((end) => isPort(end)).forEach((end) => this.ports.add(end));
    }
    return this.segments.get(key);
  }
}

const ENTER = 'enter ';
const LEAVE = 'leave ';
const isPort = (name) => name.startsWith(ENTER) || name.startsWith(LEAVE);

/** The levels of all open boxes and the root; every edge gets the segments that it consists of. */
function levelsOf(root, seen) {
  const levels = new Map([...seen.kids].map(([box, kids]) => [box, new Level(box, kids)]));
  const inside = (item) => [...around(item).filter((box) => !box.isWoven), root];
  for (const edge of seen.edges) {
    const outer = new Set(inside(edge.to));
    const common = inside(edge.from).find((box) => outer.has(box));
    let [from, to] = [edge.from, edge.to];
    const leaving = [];
    for (; holder(from) !== common; from = holder(from)) {
      leaving.push(levels.get(holder(from)).segment(from.id, LEAVE + edge.from.id));
    }
    const entering = [];
    for (; holder(to) !== common; to = holder(to)) {
      entering.unshift(levels.get(holder(to)).segment(ENTER + edge.from.id, to.id));
    }
    const across = levels.get(common).segment(from.id, to.id);
    across.edges.push(edge);
    if (!seen.fans.has(edge.from)) {
      across.values.push(...edge.values.filter((value) => !across.values.includes(value)));
    }
    edge.segments = [...leaving, across, ...entering];
  }
  return levels;
}

/** The points of an edge: those of its segments, which meet at the borders of boxes. */
function wayOf(edge, offsets) {
  const last = edge.segments.length - 1;
  return edge.segments.flatMap(({ level, from, to, points }, number) => {
    const { x, y } = offsets.get(level);
    const isCut = [number > 0 && !isPort(from), number < last && !isPort(to)];
    const own = points.slice(isCut[0] ? 1 : 0, isCut[1] ? -1 : undefined);
    const repeats = number > 0 && isPort(from) && edge.segments[number - 1].to === from;
    return own.slice(repeats ? 1 : 0).map((point) => ({ x: x + point.x, y: y + point.y }));
  });
}
