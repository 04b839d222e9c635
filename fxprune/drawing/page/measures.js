// The sizes of texts and of what they stand in.

const PAD = 9;
const LINE = { title: 15, small: 13, reason: 13, mark: 13 };
const BAR = 7;
const FONTS = {
  title: '600 12px system-ui, sans-serif',
  small: '11px system-ui, sans-serif',
  reason: 'italic 11px system-ui, sans-serif',
  mark: '600 11px system-ui, sans-serif',
};

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

/** The room for the widths of some values after every plan; none without values. */
function labelSize(values, page) {
  if (!values.length) {
    return { width: 0, height: 0 };
  }
  const texts = page.samples.map((stop) => flow(values, page.data, stop).split('\n'));
  return {
    width: Math.ceil(Math.max(...texts.flat().map((text) => length(text, 'small')))) + 6,
    height: Math.max(...texts.map((lines) => lines.length)) * LINE.small,
  };
}
