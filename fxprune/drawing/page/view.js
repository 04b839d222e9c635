// Which part of the drawing is seen: pan and zoom, by mouse, touch, buttons and keys.

const SMALLEST = 0.02;
const LARGEST = 4;
const FAR = 0.3; // Smaller texts are not shown.
const READABLE = 0.8; // At first, texts are not smaller than this.
const CLICK = 4; // Pixels that a pointer may move in a click.

class View {
  constructor(canvas, world, moved) {
    this.onMoved = moved;
    this.canvas = canvas;
    this.world = world;
    [this.x, this.y, this.scale] = [0, 0, 1];
    this.pointers = new Map();
    this.moved = 0;
    this.isAsked = false;
    canvas.addEventListener('wheel', (event) => this.wheel(event), { passive: false });
    canvas.addEventListener('pointerdown', (event) => this.down(event));
    canvas.addEventListener('pointermove', (event) => this.move(event));
    for (const name of ['pointerup', 'pointercancel']) {
      canvas.addEventListener(name, (event) => this.up(event));
    }
  }

  get size() {
    return { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
  }

  /** The part of the drawing that is on the canvas. */
  get seen() {
    const { width, height } = this.size;
    return {
      x: -this.x / this.scale,
      y: -this.y / this.scale,
      width: width / this.scale,
      height: height / this.scale,
    };
  }

  /** Whether the pointer was dragged, so that what follows is no click. */
  get wasDragged() {
    return this.moved > CLICK;
  }

  show() {
    if (!this.isAsked) {
      this.isAsked = true;
      requestAnimationFrame(() => {
        this.isAsked = false;
        const place = `translate(${this.x.toFixed(2)} ${this.y.toFixed(2)})`;
        this.world.classList.toggle('far', this.scale < FAR);
        this.world.setAttribute('transform', `${place} scale(${this.scale.toFixed(4)})`);
        this.onMoved(this.seen);
      });
    }
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.show();
  }

  /** Zoom so that a point of the canvas stays where it is; the centre by default. */
  zoom(factor, x = this.size.width / 2, y = this.size.height / 2) {
    const scale = Math.min(LARGEST, Math.max(SMALLEST, this.scale * factor));
    this.x = x - (x - this.x) * scale / this.scale;
    this.y = y - (y - this.y) * scale / this.scale;
    this.scale = scale;
    this.show();
  }

  /** Show all of a rectangle, but nothing smaller than `least`; then its top. */
  fit({ x, y, width, height }, least = SMALLEST) {
    const { width: w, height: h } = this.size;
    const fitting = Math.min((w - 40) / width, (h - 40) / height, 1.4);
    this.scale = Math.max(fitting, least);
    this.x = (w - width * this.scale) / 2 - x * this.scale;
    this.y = Math.max(20, (h - height * this.scale) / 2) - y * this.scale;
    this.show();
  }

  /** Bring a rectangle into the middle, large enough to read. */
  centre({ x, y, width, height }) {
    const { width: w, height: h } = this.size;
    this.scale = Math.max(this.scale, READABLE);
    this.x = w / 2 - (x + width / 2) * this.scale;
    const isTall = height * this.scale > h - 80;
    this.y = isTall ? 40 - y * this.scale : h / 2 - (y + height / 2) * this.scale;
    this.show();
  }

  /** Where a place of the drawing is on the canvas. */
  onCanvas({ x, y }) {
    return { x: this.x + x * this.scale, y: this.y + y * this.scale };
  }

  wheel(event) {
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 16 : 1;
    const { left, top } = this.canvas.getBoundingClientRect();
    const factor = Math.exp(-Math.max(-200, Math.min(200, event.deltaY * unit)) / 400);
    this.zoom(factor, event.clientX - left, event.clientY - top);
  }

  down(event) {
    this.moved = this.pointers.size ? CLICK + 1 : 0;
    this.pointers.set(event.pointerId, event);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      return;
    }
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    const others = [...this.pointers.values()].filter((each) => each !== before);
    this.pointers.set(event.pointerId, event);
    this.moved += Math.abs(dx) + Math.abs(dy);
    if (!this.wasDragged) {
      return;
    }
    if (!this.canvas.hasPointerCapture(event.pointerId)) {
      this.canvas.setPointerCapture(event.pointerId);
      this.canvas.classList.add('dragged');
    }
    if (others.length) {
      this.pinch(before, event, others[0]);
    } else {
      this.pan(dx, dy);
    }
  }

  /** Two fingers: the drawing stays below both of them. */
  pinch(before, now, other) {
    const apart = (event) =>
      Math.hypot(event.clientX - other.clientX, event.clientY - other.clientY) || 1;
    const { left, top } = this.canvas.getBoundingClientRect();
    this.zoom(apart(now) / apart(before), other.clientX - left, other.clientY - top);
  }

  up(event) {
    this.pointers.delete(event.pointerId);
    this.canvas.classList.remove('dragged');
  }
}
