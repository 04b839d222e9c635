// What is seen: the nodes and boxes that are not in a closed box, and the edges between them.

const FAN = 4; // From so many edges on that carry the same, a node tells the width instead.
const MOST_LABELS = 500; // With more edges all nodes do: labels would hide the edges.
const LEAST = 4; // From so many sources on, one dashed edge in their place says more.
const FEW = 8; // With fewer items at first, a larger level is opened, too.
const BACK = 8; // How many of the last items with many sources are asked.

/** The items in the order of the graph, the open boxes with a frame, what is in each, the edges. */
function visible(root, data, open) {
  const items = [];
  const clusters = [];
  const kids = new Map([[root, []]]);
  const itemOf = new Map();
  const visit = (box) => {
    for (const kid of box.kids) {
      const isOpen = kid instanceof Box && open.has(kid);
      if (!(isOpen && kid.isWoven)) {
        kids.get(holder(kid)).push(kid);
      }
      if (isOpen) {
        if (!kid.isWoven) {
          clusters.push(kid);
          kids.set(kid, []);
        }
        visit(kid);
      } else {
        items.push(kid);
        for (const leaf of kid.leaves) {
          itemOf.set(leaf.place, kid);
        }
      }
    }
  };
  visit(root);
  const edges = shared(items, merged(data, itemOf));
  return { items, clusters, kids, edges, fans: fans(edges, data) };
}

/**
 * One edge for all that flows from an item to another; none within an item. `carries` has what flows
 * along the edges that a dashed one stands for, too.
 */
function merged(data, itemOf) {
  const found = new Map();
  for (const [source, target, values] of data.edges) {
    const [from, to] = [itemOf.get(source), itemOf.get(target)];
    if (from === to) {
      continue;
    }
    const key = `${from.id}\n${to.id}`;
    if (!found.has(key)) {
      found.set(key, { key, from, to, values: [], carries: [], all: false });
    }
    const edge = found.get(key);
    edge.values.push(...values.filter((value) => !edge.values.includes(value)));
    edge.carries = edge.values;
  }
  return [...found.values()];
}

/** Whether the same tensors flow along two edges. */
const isSame = (edge, other) => edge.values.length === other.values.length &&
  edge.values.every((value) => other.values.includes(value));

/** One dashed edge for many that an earlier item has too; as sharing.py has it. */
function shared(items, edges) {
  const entering = new Map(items.map((item) => [item, new Map()]));
  for (const edge of edges) {
    entering.get(edge.to).set(edge.from, edge);
  }
  const recent = [];
  const kept = [];
  for (const [to, found] of entering) {
    let best = null;
    for (const [item, theirs] of recent) {
      const isPart = [...theirs].every(([from, edge]) => found.has(from) && isSame(edge, found.get(from)));
      if (isPart && !theirs.has(to) && (!best || theirs.size > best[1].size)) {
        best = [item, theirs];
      }
    }
    for (const [from, edge] of found) {
      if (!best || !best[1].has(from)) {
        kept.push(edge);
      }
    }
    if (best) {
      const direct = found.get(best[0]);
      const stood = [...best[1].values()].flatMap(({ values }) => values);
      if (direct) {
        Object.assign(direct, { all: true, carries: [...direct.values, ...stood] });
      } else {
        const key = `${best[0].id}\n${to.id}`;
        kept.push({ key, from: best[0], to, values: [], carries: stood, all: true });
      }
    }
    if (found.size >= LEAST) {
      recent.push([to, found]);
      recent.splice(0, recent.length - BACK);
    }
  }
  return kept;
}

/** For the items that tell what they put out in place of their edges: the values. */
function fans(edges, data) {
  const leaving = new Map();
  for (const edge of edges.filter((each) => each.values.length)) {
    leaving.set(edge.from, [...(leaving.get(edge.from) || []), edge]);
  }
  const least = edges.length > MOST_LABELS ? 1 : FAN;
  const found = new Map();
  for (const [item, own] of leaving) {
    const told = new Set(own.map((edge) => edge.values.map((v) => track(data.values[v])).join()));
    if (own.length >= least && (told.size === 1 || least === 1)) {
      found.set(item, [...new Set(own.flatMap((edge) => edge.values))]);
    }
  }
  return found;
}

/** What tells values apart: the sizes that are shown, after every plan. */
const track = ([sizes, dims]) =>
  JSON.stringify(dims.length ? [dims.map((dim) => sizes[dim])] : sizes);

/** The different widths of some values, a line each. */
const flow = (values, data, stop) =>
  [...new Set(values.map((value) => widths(data.values[value], stop)))].join('\n');

/** The boxes to open at first: whole levels of them, as long as so few items are seen. */
function opened(root, most) {
  const open = new Set();
  let seen = root.kids;
  for (;;) {
    const boxes = seen.filter((kid) => kid instanceof Box);
    const next = seen.flatMap((kid) => (kid instanceof Box ? kid.kids : [kid]));
    if (!boxes.length || next.length > (seen.length < FEW ? 1.5 * most : most)) {
      return open;
    }
    boxes.forEach((box) => open.add(box));
    seen = next;
  }
}
