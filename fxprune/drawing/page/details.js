// The panel: all that is known of a node, a box or a group.

const MOST = 12; // Entries of a list before the rest is left out.
const FEW_MEMBERS = 5; // Of the group of a node; the panel of the group has more.
const MOST_GROUPS = 100;
const HINT = 'Click a node to see what is known of it, a group to see all that it touches, '
  + 'a double click opens or closes a box.';

/** An HTML element; texts in it are never markup. */
function html(name, options = {}, ...content) {
  const { on, ...attributes } = options;
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  for (const [key, value] of Object.entries(on || {})) {
    element.addEventListener(key, value);
  }
  element.append(...content.filter((each) => each !== null && each !== undefined && each !== ''));
  return element;
}

/** A name that can be broken after its dots. */
const breakable = (name) =>
  name.split(/(?<=\.)/).flatMap((part, number) => (number ? [html('wbr'), part] : [part]));

class Details {
  constructor(page) {
    this.page = page;
    this.element = document.getElementById('details');
  }

  /** Shows what is looked at, a group or a node or box: first what was clicked last. */
  show() {
    const { selected, lit, isGroupFirst } = this.page;
    const group = lit === null ? [] : this.group(lit);
    let item = [];
    if (selected !== null) {
      item = selected instanceof Box ? this.box(selected) : this.leaf(selected);
    }
    const parts = isGroupFirst ? [...group, ...item] : [...item, ...group];
    this.element.replaceChildren(...(parts.length ? parts : [html('p', { class: 'hint' }, HINT)]));
  }

  leaf(leaf) {
    const { data } = leaf;
    const { reasons } = this.page.data;
    return [
      this.head(fullName(leaf), leaf),
      data.mark ? html('p', { class: 'reason mark' }, data.mark) : null,
      html('p', { class: 'kind' }, data.operators.join(', ')),
      data.repeats.length ? html('p', {}, `drawn once for ${data.repeats.length + 1}: also ${data.repeats.join(', ')}`) : null,
      data.pinned >= 0 ? this.reason(reasons[data.pinned]) : null,
      this.rows([
        ['parameters', this.amount(leaf, 'parameters')],
        ['MACs', this.amount(leaf, 'macs')],
        ['source', data.source],
        ['graph nodes', data.ops.join(', ')],
      ]),
      ...this.tensors('reads', leaf),
      ...this.tensors('puts out', leaf),
      ...this.groups(leaf),
      ...(data.group === this.page.lit ? [] : this.members(data.group, 'its group is on the axes', FEW_MEMBERS)),
    ].filter(Boolean);
  }

  box(box) {
    const times = box.folds.length;
    return [
      this.head(box.path, box),
      ...box.leaves.filter(isMarked).map((leaf) => html('p', { class: 'reason mark' },
        this.link(fullName(leaf), () => this.page.goTo(leaf)), `: ${leaf.data.mark}`)),
      html('p', { class: 'kind' }, [box.kind, `${box.leaves.length} nodes`].filter(Boolean).join(', ')),
      times ? html('p', {}, `drawn once for ${times} blocks that are all the same: ${box.folds.join(', ')}`) : null,
      this.rows([
        [times ? `parameters of all ${times}` : 'parameters', this.amount(box, 'parameters')],
        [times ? `MACs of all ${times}` : 'MACs', this.amount(box, 'macs')],
      ]),
      ...this.groups(box),
    ].filter(Boolean);
  }

  group(number) {
    const { data, stop, leavesOf } = this.page;
    const group = data.groups[number];
    const leaves = leavesOf(number);
    const title = html('h2', {}, this.swatch(group), 'group ', ...breakable(group.name));
    const close = html('button', { type: 'button', title: 'Show all again (Escape)', on: { click: () => this.page.light(null) } }, 'show all');
    return [
      html('div', { class: 'head' }, title, close),
      html('p', { class: 'kind', id: 'width' }, groupWidth(group, stop)),
      group.pinned >= 0 ? this.reason(data.reasons[group.pinned], group.pinnedAt) : null,
      ...this.members(number, 'on the axes'),
      ...this.list('touches', leaves.map((leaf) => html('li', {}, this.link(fullName(leaf), () => this.page.goTo(leaf))))),
    ].filter(Boolean);
  }

  /** The axes of parameters that a group is on. */
  members(number, title, most = MOST) {
    const names = number < 0 ? [] : this.page.data.groups[number].members;
    return this.list(title, names.map((name) => html('li', {}, html('code', {}, ...breakable(name)))), most);
  }

  head(name, item) {
    const isOpen = this.page.open.has(item);
    const toggle = item instanceof Box
      ? html('button', { type: 'button', on: { click: () => this.page.toggle(item) } }, isOpen ? 'close' : 'open')
      : null;
    const boxes = around(item).reverse().flatMap((box, number) =>
      [number ? ' / ' : '', this.link(below(box.path, box.parent), () => this.page.goTo(box))]);
    return html('div', {}, html('nav', { 'aria-label': 'The boxes around it' }, ...boxes),
      html('div', { class: 'head' }, html('h2', {}, ...breakable(name)), toggle));
  }

  reason({ what, why, where, hint }, pinnedAt = '') {
    return html('div', { class: 'reason' },
      html('p', {}, html('strong', {}, 'must stay: '), what),
      why === what ? null : html('p', {}, why),
      where ? html('p', {}, `where: ${where}`) : null,
      pinnedAt && pinnedAt !== where ? html('p', {}, `met at: ${pinnedAt}`) : null,
      hint ? html('p', {}, `what to do: ${hint}`) : null);
  }

  /** Parameters or MACs before and after, in full. */
  amount(item, what) {
    const { stop, data } = this.page;
    const [before, after] = [total(item, what, 0), total(item, what, stop)];
    if (!before) {
      return '';
    }
    const whole = data.before[what === 'parameters' ? 0 : 1];
    return `${change(exact(before), exact(after), stop > 0)} (${percent(before, whole)})`;
  }

  rows(rows) {
    const shown = rows.filter(([, value]) => value);
    return html('dl', {}, ...shown.flatMap(([name, value]) => [html('dt', {}, name), html('dd', {}, value)]));
  }

  /** The tensors that a node reads or puts out: from or to where, and their shapes. */
  tensors(title, leaf) {
    const { data, stop, leaves } = this.page;
    const [here, there] = title === 'reads' ? [1, 0] : [0, 1];
    const found = new Map();
    for (const edge of data.edges.filter((each) => each[here] === leaf.place)) {
      for (const value of edge[2]) {
        found.set(value, [...(found.get(value) || []), leaves[edge[there]]]);
      }
    }
    return this.list(title, [...found].map(([value, others]) => html('li', {},
      html('code', {}, shape(data.values[value], stop)), title === 'reads' ? ' of ' : ' to ',
      ...others.slice(0, 4).flatMap((other, number) =>
        [number ? ', ' : null, this.link(fullName(other), () => this.page.goTo(other))]),
      others.length > 4 ? ` and ${others.length - 4} more` : null)));
  }

  /** The groups that an item carries. */
  groups(item) {
    const numbers = [...new Set(item.leaves.flatMap((leaf) => leaf.data.groups))];
    return this.list('groups', numbers.map((number) => this.groupEntry(number)));
  }

  groupEntry(number) {
    const { data, stop, lit } = this.page;
    const group = data.groups[number];
    const entry = html('li', { class: 'group' },
      html('button', { type: 'button', 'aria-pressed': String(lit === number), 'data-group': number, on: { click: () => this.page.light(number) } },
        this.swatch(group), html('span', {}, group.name), html('small', {}, groupWidth(group, stop))));
    if (group.pinned >= 0) {
      entry.append(html('small', { class: 'stays' }, `must stay: ${data.reasons[group.pinned].what}`));
    }
    return entry;
  }

  swatch(group) {
    const drawn = svg('svg', { class: 'swatch', viewBox: '0 0 10 10', 'aria-hidden': 'true' });
    drawn.append(svg('rect', { width: 10, height: 10, fill: group.fill }));
    if (group.pinned >= 0) {
      drawn.append(svg('rect', { class: 'hatched', width: 10, height: 10 }));
    }
    return drawn;
  }

  link(text, click) {
    return html('button', { type: 'button', class: 'link', on: { click } }, ...breakable(text));
  }

  /** A list with a title; what is too much of it is shown when asked for. */
  list(title, entries, most = MOST) {
    if (!entries.length) {
      return [];
    }
    const shown = html('ul', {}, ...entries.slice(0, most));
    if (entries.length > most) {
      const more = html('button', { type: 'button', class: 'link', on: { click: () => shown.replaceChildren(...entries) } }, `and ${entries.length - most} more`);
      shown.append(html('li', {}, more));
    }
    return [html('h3', {}, title), shown];
  }
}
