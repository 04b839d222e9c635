// Where everything goes: dagre lays out each open box by itself, the innermost first.

const SIDE = 16; // Between a box and what is in it.
const HEADER = 20;
const ABOVE = HEADER + 14;
const PORT = 2; // The size of a place where lines cross a border.
const WIDEST_TITLE = 260;
const SPACING = { nodesep: 26, ranksep: 44, edgesep: 14 };
const [TOP, FOOT] = ['top', 'foot']; // Nodes by whose names no item is called: these begin with n or b.
const HUG = 8; // How strongly ports are drawn to the border.

/** Places for all that is seen: rectangles by names, ways of edges, and labels. */
function placed(page, seen) {
  const levels = levelsOf(page.root, seen);
  const sizes = new Map(seen.items.map((item) => [item.id, sizeOf(item, page, seen.fans)]));
  for (const level of [...levels.values()].reverse()) {
    arrange(level, sizes, page);
    sizes.set(level.box.id, level.size);
  }
  const rectangles = new Map();
  const offsets = new Map();
  spread(page.root, { x: 0, y: 0 }, { levels, sizes, rectangles, offsets });
  const ways = seen.edges.map((edge) => wayOf(edge, offsets));
  const labels = [...levels.values()].flatMap((level) => labelsOf(level, offsets.get(level)));
  return { rectangles, ways, labels, bounds: bounds(rectangles.values(), ways) };
}

/** Lays out the inside of a box, and finds its size. */
function arrange(level, sizes, page) {
  const nodes = level.kids.map((kid) => ({ v: kid.id, ...sizes.get(kid.id) }));
  nodes.push(...[...level.ports].map((port) => ({ v: port, width: PORT, height: PORT })));
  const edges = [...level.segments.values()].map((segment) => ({
    segment,
    ...{ v: segment.from, w: segment.to, minlen: 1, weight: 1 },
    ...{ ...labelSize(segment.values, page), labeloffset: 5, labelpos: 'r' },
  }));
  const hidden = borders(level, nodes);
  nodes.push(...hidden.nodes);
  dagre.layout(nodes, [...edges, ...hidden.edges], { ...SPACING }, {});
  settle(level, nodes, edges);
}

/** Nodes above and below all others, to which ports are tied. */
function borders(level, nodes) {
  const segments = [...level.segments.values()];
  const found = { nodes: [], edges: [] };
  const kids = level.kids.map(({ id }) => id);
  const line = { width: 0, height: 0 };
  const tie = (ports, loose, join, name) => {
    if (ports.length) {
      found.nodes.push({ v: name, width: PORT, height: PORT });
      found.edges.push(...ports.map((port) => ({ ...join(name, port), ...line, minlen: 1, weight: HUG })));
      found.edges.push(...loose.map((kid) => ({ ...join(name, kid), ...line, minlen: 2, weight: 0.1 })));
    }
  };
  const ports = [...level.ports];
  const read = new Set(segments.map(({ to }) => to));
  const reading = new Set(segments.map(({ from }) => from));
  const down = (name, kid) => ({ v: name, w: kid });
  const up = (name, kid) => ({ v: kid, w: name });
  tie(ports.filter((port) => port.startsWith(ENTER)), kids.filter((kid) => !read.has(kid)), down, TOP);
  tie(ports.filter((port) => port.startsWith(LEAVE)), kids.filter((kid) => !reading.has(kid)), up, FOOT);
  return found;
}

/** Takes up what dagre found; the upper left corner of the box becomes the origin. */
function settle(level, nodes, edges) {
  const { box } = level;
  const kids = nodes.slice(0, level.kids.length);
  const top = Math.min(...kids.map(({ y, height }) => y - height / 2)) - (box.parent ? ABOVE : 0);
  const bottom = Math.max(...kids.map(({ y, height }) => y + height / 2)) + SIDE;
  const xs = [
    ...kids.flatMap(({ x, width }) => [x - width / 2, x + width / 2]),
    ...edges.flatMap(({ points }) => points.map(({ x }) => x)),
    ...edges.filter(({ width }) => width).flatMap(({ x, width }) => [x - width / 2, x + width / 2]),
  ];
  const title = Math.min(WIDEST_TITLE, length(headOf(box), 'small') + 18);
  const width = Math.max(Math.max(...xs) - Math.min(...xs) + 2 * SIDE, title);
  const left = (Math.min(...xs) + Math.max(...xs) - width) / 2;
  const moved = ({ x, y }) => ({ x: x - left, y: y - top });
  level.size = { width, height: bottom - top };
  level.corners = new Map(kids.map((kid) => [kid.v, moved({ x: kid.x - kid.width / 2, y: kid.y - kid.height / 2 })]));
  for (const { segment, points, x, y, width: room } of edges) {
    segment.points = points.map(moved);
    if (segment.from.startsWith(ENTER)) {
      segment.points[0].y = 0;
    }
    if (segment.to.startsWith(LEAVE)) {
      segment.points[points.length - 1].y = bottom - top;
    }
    segment.label = room ? moved({ x: x - room / 2 + 3, y }) : null;
  }
}

/** Puts a box and all in it where it belongs. */
function spread(box, corner, found) {
  const level = found.levels.get(box);
  found.offsets.set(level, corner);
  for (const kid of level.kids) {
    const { x, y } = level.corners.get(kid.id);
    const place = { x: corner.x + x, y: corner.y + y };
    found.rectangles.set(kid.id, { ...place, ...found.sizes.get(kid.id) });
    if (found.levels.has(kid)) {
      spread(kid, place, found);
    }
  }
}

/** The labels in a box: where, of what values, and for which edges. */
function labelsOf(level, { x, y }) {
  return [...level.segments.values()].filter(({ label }) => label).map(({ label, values, edges }) =>
    ({ x: x + label.x, y: y + label.y, values, edges }));
}

/** The rectangle around everything. */
function bounds(rectangles, ways) {
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  const take = (x, y) => {
    [left, top] = [Math.min(left, x), Math.min(top, y)];
    [right, bottom] = [Math.max(right, x), Math.max(bottom, y)];
  };
  for (const { x, y, width, height } of rectangles) {
    take(x, y);
    take(x + width, y + height);
  }
  for (const points of ways) {
    points.forEach(({ x, y }) => take(x, y));
  }
  return { x: left, y: top, width: right - left, height: bottom - top };
}
