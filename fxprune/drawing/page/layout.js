// Where everything goes: sizes of texts, and dagre for the rest.

const PAD = 9;
const LINE = { title: 15, small: 13, reason: 13 };
const BAR = 7;
const FONTS = {
  title: '600 12px system-ui, sans-serif',
  small: '11px system-ui, sans-serif',
  reason: 'italic 11px system-ui, sans-serif',
};
const HEADER = 20;
const ABOVE = 9; // Dagre leaves less above the nodes in a box than its head takes.
const LARGE = 150; // From so many items on, the layout is left to another thread.

const pen = document.createElement('canvas').getContext('2d');
const lengths = new Map();

/** The length of a text in pixels. */
function length(text, look) {
  const key = `${look}\n${text}`;
  if (!lengths.has(key)) {
    pen.font = FONTS[look];
    lengths.set(key, pen.measureText(text).width);
  }
  return lengths.get(key);
}

/** The size of an item that has room for its texts after every plan. */
function sizeOf(item, page, fans) {
  let width = 40;
  let height = 0;
  for (const stop of page.samples) {
    const lines = linesOf(item, page.data, fans, stop);
    width = Math.max(width, ...lines.map(([look, text]) => length(text, look)));
    height = lines.reduce((sum, [look]) => sum + LINE[look], 0);
  }
  const sign = item instanceof Box ? 18 : 0;
  return { width: Math.ceil(width) + 2 * PAD + sign, height: height + PAD + BAR };
}

/** The room that the label of an edge takes. */
function labelSize(edge, page, fans) {
  if (fans.has(edge.from) || !edge.values.length) {
    return { width: 0, height: 0 };
  }
  const texts = page.samples.map((stop) => flow(edge.values, page.data, stop).split('\n'));
  return {
    width: Math.ceil(Math.max(...texts.flat().map((text) => length(text, 'small')))) + 4,
    height: Math.max(...texts.map((lines) => lines.length)) * LINE.small,
  };
}

/** What dagre is asked. */
function question(page, { items, clusters, edges, fans }) {
  const parent = (item) => (item.parent.parent ? item.parent.id : undefined);
  return {
    nodes: [
      ...clusters.map((box) => ({ v: box.id, width: 0, height: 0, parent: parent(box) })),
      ...items.map((item) => ({ v: item.id, ...sizeOf(item, page, fans), parent: parent(item) })),
    ],
    edges: edges.map((edge) => ({
      v: edge.from.id,
      w: edge.to.id,
      minlen: 1,
      weight: edge.values.length ? 1 : 0.5,
      ...labelSize(edge, page, fans),
      labeloffset: 5,
      labelpos: 'r',
    })),
    layout: { nodesep: 26, ranksep: 44, edgesep: 14 },
    state: {},
  };
}

/** Places for all that is seen; a promise only if another thread is asked. */
function placed(page, seen) {
  const asked = question(page, seen);
  if (asked.nodes.length < LARGE) {
    dagre.layout(asked.nodes, asked.edges, asked.layout, asked.state);
    return answer(seen, asked);
  }
  return elsewhere(asked).then((found) => found && answer(seen, found));
}

let worker = null;
let settle = null;

/** The layout by another thread; null if a later one was asked for meanwhile. */
function elsewhere(asked) {
  if (settle) {
    worker.terminate();
    settle(null);
    worker = null;
  }
  if (!worker) {
    const code = `${document.getElementById('layout').textContent}
      onmessage = ({ data }) => {
        dagre.layout(data.nodes, data.edges, data.layout, data.state);
        postMessage(data);
      };`;
    const url = URL.createObjectURL(new Blob([code], { type: 'text/javascript' }));
    worker = new Worker(url);
    URL.revokeObjectURL(url);
  }
  return new Promise((resolve) => {
    settle = resolve;
    worker.onmessage = ({ data }) => {
      settle = null;
      resolve(data);
    };
    worker.onerror = () => {
      settle = null;
      dagre.layout(asked.nodes, asked.edges, asked.layout, asked.state);
      resolve(asked);
    };
    worker.postMessage(asked);
  });
}

/** Rectangles of items and boxes by their names, and the ways of edges. */
function answer(seen, found) {
  const open = new Set(seen.clusters.map((box) => box.id));
  const rectangles = new Map(
    found.nodes.map(({ v, x, y, width, height }) => {
      const head = open.has(v) ? ABOVE : 0;
      return [v, { x: x - width / 2, y: y - height / 2 - head, width, height: height + head }];
    }),
  );
  const ways = found.edges.map(({ points, x, y, width }) => ({ points, x: x - width / 2 + 3, y }));
  return { rectangles, ways, bounds: bounds(rectangles.values(), ways) };
}

/** The rectangle around everything. */
function bounds(rectangles, ways) {
  let [left, top, right, bottom] = [0, 0, 1, 1];
  const take = (x, y) => {
    [left, top] = [Math.min(left, x), Math.min(top, y)];
    [right, bottom] = [Math.max(right, x), Math.max(bottom, y)];
  };
  for (const { x, y, width, height } of rectangles) {
    take(x, y);
    take(x + width, y + height);
  }
  for (const { points } of ways) {
    points.forEach(({ x, y }) => take(x, y));
  }
  return { x: left, y: top, width: right - left, height: bottom - top };
}
