// The drawing: what is seen as SVG.

const SVG = 'http://www.w3.org/2000/svg';
const MOST_LINES = 8; // Of what happened at a node; its panel has all.

/** An SVG element; text in it is never markup. */
function svg(name, attributes = {}, text = null) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  if (text !== null) {
    element.textContent = text;
  }
  return element;
}

/** Parameters or MACs of a node or box, at a plan; blocks that are drawn once count as all. */
const total = (item, what, stop) =>
  item.leaves.reduce((sum, leaf) => sum + leaf.times * at(leaf.data[what], stop), 0) / item.times;

/** Whether nothing is left of an item. */
const goes = (item, stop) => item.leaves.every((leaf) => at(leaf.data.goes, stop) === 1);

/** The texts in an item, with their looks. */
function linesOf(item, data, fans, stop) {
  const lines = [];
  if (item instanceof Box) {
    const kind = CONTAINERS.has(item.kind) ? '' : `${item.kind} \u00b7 `;
    lines.push(['title', cut(boxTitle(item))], ['small', `${kind}${item.leaves.length} nodes`]);
  } else {
    lines.push(['title', cut(leafTitle(item))]);
    const words = item.data.kind === 'op' ? '' : cut(joined(item.data.operators));
    if (item.data.kind === 'op' && item.data.path !== holder(item).path) {
      lines.push(['small', cut(below(item.data.path, holder(item)))]);
    }
    lines.push(...(words ? [['small', words]] : []));
  }
  const before = total(item, 'parameters', 0);
  if (before) {
    const after = count(total(item, 'parameters', stop));
    const text = change(count(before), after, stop > 0);
    lines.push(['small', `${text} (${percent(before, data.before[0])})`]);
  }
  for (const group of item instanceof Leaf ? item.data.inner : []) {
    lines.push(['small', groupWidth(data.groups[group], stop)]);
  }
  if (fans.has(item)) {
    lines.push(['small', `out: ${flow(fans.get(item), data, stop).replaceAll('\n', '; ')}`]);
  }
  if (item instanceof Leaf && item.data.tells) {
    const reason = data.reasons[item.data.pinned].what;
    lines.push(...wrapped(`must stay: ${reason}`).map((line) => ['reason', line]));
  }
  if (item instanceof Leaf) {
    lines.push(...wrapped(item.data.mark).slice(0, MOST_LINES).map((line) => ['mark', line]));
  }
  return lines.filter(([, text]) => text);
}

/** Whether a node is one that the picture is about. */
const isMarked = (leaf) => leaf.data.mark !== '';

/** The group that an item is coloured by; -1 if there is none. */
const groupOf = (item) => (item instanceof Box ? item.group : item.data.group);

/** Whether all channels that an item puts out must stay. */
function isPinned(item, data) {
  if (item instanceof Leaf) {
    return item.data.pinned >= 0 && !['input', 'output'].includes(item.data.kind);
  }
  return item.group >= 0 && data.groups[item.group].pinned >= 0;
}

/** Draws all that is seen, in place of what was drawn before. */
class Drawing {
  constructor(page) {
    this.page = page;
    this.world = document.getElementById('world');
    this.items = new Map();
    this.clusters = new Map();
    this.edges = [];
    this.labels = [];
  }

  draw(seen, places) {
    this.fans = seen.fans;
    this.places = places;
    this.items = new Map(seen.items.map((item) => [item, this.item(item)]));
    this.clusters = new Map(seen.clusters.map((box) => [box, this.cluster(box)]));
    this.edges = seen.edges.map((edge, number) => this.edge(edge, places.ways[number]));
    this.labels = places.labels.map((label) => ({ ...label, element: svg('text', { class: 'label' }) }));
    this.world.replaceChildren(
      ...[...this.clusters.values()].map(({ element }) => element),
      ...this.edges.map(({ element }) => element),
      ...[...this.items.values()].map(({ element }) => element),
      ...this.labels.map(({ element }) => element),
    );
    this.refresh();
  }

  item(item) {
    const { data } = this.page;
    const { x, y, width, height } = this.places.rectangles.get(item.id);
    const isBox = item instanceof Box;
    const element = svg('g', { class: `item ${isBox ? 'box' : item.data.kind}`, transform: `translate(${x} ${y})` });
    element.dataset.id = item.id;
    const round = isBox ? 4 : { input: height / 2, output: height / 2 }[item.data.kind] || 2;
    const size = { width, height, rx: round };
    if (isBox) {
      element.append(svg('rect', { class: 'behind', ...size, x: 4, y: 4 }));
    }
    const group = groupOf(item);
    const body = svg('rect', { class: 'body', ...size });
    if (group >= 0) {
      body.setAttribute('fill', data.groups[group].fill);
      element.classList.add('filled');
    }
    element.append(body);
    if (isPinned(item, data)) {
      const inside = { x: 1.5, y: 1.5, width: width - 3, height: height - 3, rx: round };
      element.append(svg('rect', { class: 'hatched', ...inside }));
    }
    if (item.leaves.some((leaf) => leaf.data.bordered)) {
      element.classList.add('bordered');
    }
    if (item.leaves.some(isMarked)) {
      element.classList.add('marked');
    }
    if (item.leaves.every((leaf) => leaf.data.outside)) {
      element.classList.add('outside');
    }
    element.append(...this.bars(item, width, height));
    const sign = isBox ? svg('text', { class: 'sign', x: width - PAD, y: 17, 'text-anchor': 'end' }, '+') : null;
    element.append(...(sign ? [sign] : []));
    const texts = linesOf(item, data, this.fans, 0).map(() => svg('text', { x: (width - (isBox ? 14 : 0)) / 2 }));
    element.append(...texts, svg('title', {}, fullName(item)));
    return { element, texts, height, bars: element.querySelectorAll('.bar') };
  }

  /** The share of the parameters, as lengths of which the square is the share. */
  bars(item, width, height) {
    if (!total(item, 'parameters', 0)) {
      return [];
    }
    const line = { x: 4, y: height - 5, height: 3, rx: 1.5, 'data-most': width - 8 };
    return [
      svg('rect', { class: 'track', ...line, width: width - 8 }),
      svg('rect', { class: 'bar before', ...line }),
      svg('rect', { class: 'bar after', ...line }),
    ];
  }

  cluster(box) {
    const { x, y, width, height } = this.places.rectangles.get(box.id);
    const element = svg('g', { class: `cluster${box.folds.length ? ' folded' : ''}`, transform: `translate(${x} ${y})` });
    element.dataset.id = box.id;
    let title = headOf(box);
    while (title.length > 6 && length(title, 'small') > width - 12) {
      title = `${title.slice(0, -2).trimEnd()}\u2026`;
    }
    element.append(
      svg('rect', { class: 'frame', width, height, rx: 6 }),
      svg('rect', { class: 'header', width: Math.min(width, length(title, 'small') + 14), height: HEADER, rx: 6 }),
      svg('text', { x: 7, y: 14 }, title),
      svg('title', {}, `${box.path} ${box.kind}`),
    );
    return { element };
  }

  edge(edge, points) {
    const element = svg('g', { class: `edge${edge.all ? ' all' : ''}` });
    element.dataset.ends = `${edge.from.id} ${edge.to.id}`;
    element.append(svg('path', { d: curve(points) }));
    const title = svg('title');
    element.append(title);
    return { edge, element, title };
  }

  /** Shows what a plan leaves. */
  refresh() {
    const { page } = this;
    for (const [item, { element, texts, height, bars }] of this.items) {
      const lines = linesOf(item, page.data, this.fans, page.stop);
      const room = lines.reduce((sum, [look]) => sum + LINE[look], 0);
      let y = (height - BAR + 3 - room) / 2 - 3;
      lines.forEach(([look, text], number) => {
        y += LINE[look];
        const line = texts[number];
        line.setAttribute('class', look);
        line.setAttribute('y', y);
        line.textContent = text;
      });
      element.classList.toggle('goes', goes(item, page.stop));
      bars.forEach((bar, number) => {
        const share = total(item, 'parameters', number ? page.stop : 0) / page.data.before[0];
        bar.setAttribute('width', Math.sqrt(share) * bar.dataset.most);
      });
    }
    for (const { edge, title } of this.edges) {
      const [from, to] = [fullName(edge.from), fullName(edge.to)];
      const told = edge.values.length ? [flow(edge.values, page.data, page.stop)] : [];
      title.textContent = [
        `${from}${ARROW}${to}`, ...told, ...(edge.all ? [`${to} reads all that ${from} reads`] : []),
      ].join('\n');
    }
    for (const { values, element, x, y } of this.labels) {
      const lines = flow(values, page.data, page.stop).split('\n');
      const start = y - (lines.length - 1) * LINE.small / 2 + 4;
      element.replaceChildren(
        ...lines.map((line, number) => svg('tspan', { x, y: start + number * LINE.small }, line)),
      );
    }
  }

  /** Leaves out the texts that are off the canvas: a zoom would lay all of them out anew. */
  spare({ x, y, width, height }) {
    const isAway = (place) => place.x > x + width || place.x + place.width < x ||
      place.y > y + height || place.y + place.height < y;
    for (const [item, { element }] of this.items) {
      element.classList.toggle('away', isAway(this.places.rectangles.get(item.id)));
    }
    for (const { element, x: left, y: top } of this.labels) {
      element.classList.toggle('away', isAway({ x: left, y: top - 40, width: 200, height: 80 }));
    }
  }

  /** Lights up some nodes and edges, and fades the rest; null for none. */
  light(leaves, isLit) {
    const marked = (element, isOn) => element.classList.toggle('lit', isOn);
    this.world.classList.toggle('faded', leaves !== null);
    const has = (item) => leaves !== null && item.leaves.some((leaf) => leaves.has(leaf));
    for (const [item, { element }] of this.items) {
      marked(element, has(item));
    }
    for (const [box, { element }] of this.clusters) {
      marked(element, has(box));
    }
    for (const { edge, element } of this.edges) {
      marked(element, leaves !== null && isLit(edge));
    }
    for (const { edges, element } of this.labels) {
      marked(element, leaves !== null && edges.some(isLit));
    }
  }

  /** Marks the item that is looked at. */
  select(item) {
    for (const [each, { element }] of [...this.items, ...this.clusters]) {
      element.classList.toggle('selected', each === item);
    }
  }
}

/** A smooth line through some points. */
function curve(points) {
  const to = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const middle = (a, b) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
  let path = `M${to(points[0])}`;
  for (let place = 1; place < points.length - 1; place += 1) {
    const isLast = place === points.length - 2;
    const end = isLast ? points[place + 1] : middle(points[place], points[place + 1]);
    path += `Q${to(points[place])} ${to(end)}`;
  }
  return points.length === 2 ? `${path}L${to(points[1])}` : path;
}
