// The map's picture: cells, colours and a view go in, pixels come out. It knows no pointer and no legend.

const FULL = 0xfffe;
const PADDING = 14;
const HIDDEN = -1;

const unpacked = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const shorts = (text) => new Uint16Array(unpacked(text).buffer);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function parts(hex) {
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
}

// Pixels of a dot, as steps from its middle and how much of each it covers.
function stamp(radius, width) {
  const reach = Math.ceil(radius);
  const steps = [];
  for (let down = -reach; down <= reach; down++) {
    for (let right = -reach; right <= reach; right++) {
      const covered = clamp(radius + 0.5 - Math.hypot(right, down), 0, 1);
      if (covered > 0) steps.push([down * width + right, Math.round(256 * covered)]);
    }
  }
  return { reach, at: Int32Array.from(steps, (step) => step[0]), share: Int32Array.from(steps, (step) => step[1]) };
}

class Plot {
  constructor(canvas, x, y) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.x = x;
    this.y = y;
    this.home();
  }

  home() {
    this.zoom = 1;
    this.middle = [FULL / 2, FULL / 2];
  }

  // Pixels of the page for each unit of the cells' places.
  get unit() {
    const { clientWidth, clientHeight } = this.canvas;
    return ((Math.min(clientWidth, clientHeight) - 2 * PADDING) / FULL) * this.zoom;
  }

  across(cell) {
    return (this.x[cell] - this.middle[0]) * this.unit + this.canvas.clientWidth / 2;
  }

  down(cell) {
    return (this.y[cell] - this.middle[1]) * this.unit + this.canvas.clientHeight / 2;
  }

  pan(right, down) {
    const reach = (place) => clamp(place, 0, FULL);
    this.middle = [reach(this.middle[0] - right / this.unit), reach(this.middle[1] - down / this.unit)];
  }

  // Zoom and keep what lies at a place of the canvas where it is.
  zoomAt(factor, right, down) {
    const from = [right - this.canvas.clientWidth / 2, down - this.canvas.clientHeight / 2];
    const old = this.unit;
    this.zoom = clamp(this.zoom * factor, 1, 200);
    const moved = 1 / old - 1 / this.unit;
    this.middle = this.middle.map((place, axis) => clamp(place + from[axis] * moved, 0, FULL));
  }

  get radius() {
    const { clientWidth, clientHeight } = this.canvas;
    const room = Math.sqrt((clientWidth * clientHeight) / this.x.length);
    return clamp(0.17 * room, 0.8, 3) * Math.min(this.zoom ** 0.3, 2.5);
  }

  // Draw all cells and count them. index: number of each cell; table: packed colour of each number; loud: which numbers
  // stand out.
  draw(index, table, loud, ground, faint) {
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(1, Math.round(this.canvas.clientWidth * ratio));
    const height = Math.max(1, Math.round(this.canvas.clientHeight * ratio));
    if (!this.image || this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.image = this.context.createImageData(width, height);
    }
    const pixels = new Uint32Array(this.image.data.buffer);
    pixels.fill(ground);
    const sheet = { pixels, width, height, ratio, dot: stamp(this.radius * ratio, width) };
    let drawn = 0;
    if (!loud.every((one) => one)) drawn += this.scatter(sheet, index, loud.map((one) => (one ? HIDDEN : faint)));
    drawn += this.scatter(sheet, index, loud.map((one, number) => (one ? table[number] : HIDDEN)));
    this.context.putImageData(this.image, 0, 0);
    return drawn;
  }

  // Draw the cells whose number has a colour and that lie on the sheet; gives how many.
  scatter({ pixels, width, height, ratio, dot }, index, colours) {
    const unit = this.unit * ratio;
    const [right, below] = [width / 2 - this.middle[0] * unit, height / 2 - this.middle[1] * unit];
    const [{ x, y }, paints] = [this, Float64Array.from(colours)];
    let drawn = 0;
    for (let cell = 0; cell < x.length; cell++) {
      const paint = paints[index[cell]];
      if (paint === HIDDEN) continue;
      const column = Math.round(x[cell] * unit + right);
      const row = Math.round(y[cell] * unit + below);
      if (column < dot.reach || row < dot.reach || column >= width - dot.reach || row >= height - dot.reach) continue;
      blot(pixels, row * width + column, paint, dot);
      drawn++;
    }
    return drawn;
  }

  // The nearest of the cells that stand out, within so many pixels; -1 if there is none.
  nearest(right, down, within, index, loud) {
    const [unit, width, height] = [this.unit, this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    let [best, found] = [within * within, -1];
    for (let cell = 0; cell < this.x.length; cell++) {
      const away = (this.x[cell] - this.middle[0]) * unit + width - right;
      const off = (this.y[cell] - this.middle[1]) * unit + height - down;
      const distance = away * away + off * off;
      if (distance < best && loud[index[cell]]) [best, found] = [distance, cell];
    }
    return found;
  }
}

// Lay one dot over the pixels: packed colours are red, green, blue from the low byte up.
function blot(pixels, middle, packed, dot) {
  const [red, green, blue] = [packed & 255, (packed >> 8) & 255, (packed >> 16) & 255];
  for (let step = 0; step < dot.at.length; step++) {
    const [place, share] = [middle + dot.at[step], dot.share[step]];
    if (share === 256) {
      pixels[place] = packed;
      continue;
    }
    const under = pixels[place];
    const [oldRed, oldGreen, oldBlue] = [under & 255, (under >> 8) & 255, (under >> 16) & 255];
    pixels[place] =
      (0xff000000 |
        ((oldBlue + (((blue - oldBlue) * share) >> 8)) << 16) |
        ((oldGreen + (((green - oldGreen) * share) >> 8)) << 8) |
        (oldRed + (((red - oldRed) * share) >> 8))) >>>
      0;
  }
}

const packed = ([red, green, blue]) => (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
