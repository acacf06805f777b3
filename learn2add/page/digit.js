// From a drawing or a photograph to an image like those of MNIST: photo.py's way, in short.
//
// "Ink" is {wide, high, data}: a Float32Array of wide x high, 0 is paper and 1 is ink.
"use strict";

const BOX = 20, FIELD = 28; // MNIST: the digit in a box of 20, its mass in the middle of 28

function boxOf({ wide, high, data }) {
  let left = wide, top = high, right = 0, bottom = 0;
  for (let y = 0, at = 0; y < high; y++)
    for (let x = 0; x < wide; x++, at++)
      if (data[at] > 0.3) {
        left = Math.min(left, x);
        right = Math.max(right, x + 1);
        top = Math.min(top, y);
        bottom = Math.max(bottom, y + 1);
      }
  return right > left ? { left, top, wide: right - left, high: bottom - top } : null;
}

// Ink -> 784 numbers from 0 to 1; null where there is none.
function asMnist(ink) {
  const box = boxOf(ink);
  if (!box || Math.max(box.wide, box.high) < 3) return null;
  const at = (x, y) => x < 0 || y < 0 || x >= box.wide || y >= box.high
    ? 0 : ink.data[(box.top + y) * ink.wide + box.left + x];
  let mass = 0, acrossMass = 0, downMass = 0;
  for (let y = 0; y < box.high; y++)
    for (let x = 0; x < box.wide; x++) {
      mass += at(x, y);
      acrossMass += x * at(x, y);
      downMass += y * at(x, y);
    }
  const scale = BOX / Math.max(box.wide, box.high), fine = Math.max(1, Math.ceil(1 / scale));
  const start = (length, middle) => {
    // Where the mass lies far off the box's middle, the box is kept whole.
    const low = scale / 2 - 0.5, high = FIELD - 0.5 - scale * (length - 0.5);
    return Math.min(high, Math.max(low, FIELD / 2 - scale * middle));
  };
  const left = start(box.wide, acrossMass / mass), top = start(box.high, downMass / mass);
  const bilinear = (x, y) => {
    const i = Math.floor(x), j = Math.floor(y), u = x - i, v = y - j;
    return (1 - v) * ((1 - u) * at(i, j) + u * at(i + 1, j)) + v * ((1 - u) * at(i, j + 1) + u * at(i + 1, j + 1));
  };
  const image = new Float32Array(FIELD * FIELD);
  for (let row = 0; row < FIELD; row++)
    for (let column = 0; column < FIELD; column++)
      for (let j = 0; j < fine; j++)
        for (let i = 0; i < fine; i++) {
          const x = column + (i + 0.5) / fine - 0.5, y = row + (j + 0.5) / fine - 0.5;
          image[row * FIELD + column] += bilinear((x - left) / scale, (y - top) / scale);
        }
  const most = image.reduce((a, b) => Math.max(a, b));
  return image.map((value) => Math.round((255 * value) / most) / 255);
}

// Of each place the largest (or least) of the values up to `reach` away, along rows and columns.
function extreme(plane, reach, pick) {
  const along = (from, to, wide, high, stepX, stepY) => {
    for (let y = 0; y < high; y++)
      for (let x = 0; x < wide; x++) {
        let best = from[y * stepY + x * stepX];
        const last = Math.min(wide - 1, x + reach);
        for (let other = Math.max(0, x - reach); other <= last; other++)
          best = pick(best, from[y * stepY + other * stepX]);
        to[y * stepY + x * stepX] = best;
      }
  };
  const { wide, high, data } = plane, rows = new Float32Array(data.length), both = new Float32Array(data.length);
  along(data, rows, wide, high, 1, wide);
  along(rows, both, high, wide, wide, 1);
  return { wide, high, data: both };
}

function blurred({ wide, high, data }) {
  const soft = new Float32Array(data.length);
  for (let y = 0; y < high; y++)
    for (let x = 0; x < wide; x++) {
      let sum = 0, count = 0;
      for (let j = Math.max(0, y - 1); j <= Math.min(high - 1, y + 1); j++)
        for (let i = Math.max(0, x - 1); i <= Math.min(wide - 1, x + 1); i++, count++)
          sum += data[j * wide + i];
      soft[y * wide + x] = sum / count;
    }
  return { wide, high, data: soft };
}

// Otsu's threshold of values from 0 to 1: it parts them where the two sides differ most.
function otsu(values) {
  const counts = new Array(256).fill(0);
  for (const value of values) counts[Math.round(255 * Math.min(1, Math.max(0, value)))]++;
  const total = values.length, whole = counts.reduce((sum, count, level) => sum + count * level, 0);
  let below = 0, lower = 0, best = 0, found = 0.5;
  for (let level = 0; level < 255; level++) {
    below += counts[level];
    lower += counts[level] * level;
    if (!below || below === total) continue;
    const apart = lower / below - (whole - lower) / (total - below), between = below * (total - below) * apart ** 2;
    if (between > best) [best, found] = [between, (level + 1) / 255];
  }
  return found;
}

// Number the connected pieces of what is above a threshold, and measure each.
function piecesOf({ wide, high, data }, threshold) {
  const label = new Int32Array(data.length).fill(-1), pieces = [];
  for (let first = 0; first < data.length; first++) {
    if (data[first] <= threshold || label[first] >= 0) continue;
    const piece = { area: 0, rim: 0, left: wide, right: 0, top: high, bottom: 0 }, waiting = [first];
    label[first] = pieces.length;
    while (waiting.length) {
      const at = waiting.pop(), x = at % wide, y = (at - x) / wide;
      piece.area++;
      piece.rim += x === 0 || y === 0 || x === wide - 1 || y === high - 1;
      piece.left = Math.min(piece.left, x);
      piece.right = Math.max(piece.right, x + 1);
      piece.top = Math.min(piece.top, y);
      piece.bottom = Math.max(piece.bottom, y + 1);
      for (let j = Math.max(0, y - 1); j <= Math.min(high - 1, y + 1); j++)
        for (let i = Math.max(0, x - 1); i <= Math.min(wide - 1, x + 1); i++) {
          const next = j * wide + i;
          if (data[next] > threshold && label[next] < 0) {
            label[next] = pieces.length;
            waiting.push(next);
          }
        }
    }
    piece.longest = Math.max(piece.right - piece.left, piece.bottom - piece.top);
    pieces.push(piece);
  }
  return { label, pieces };
}

// How much darker each pixel is than the paper around it, as a share. A closing fills what is dark
// and narrower than its square; what is left is the paper, with the edges of shadows and sheets.
function darkerThanAround(soft) {
  const reach = Math.floor(Math.max(soft.wide, soft.high) / 6);
  const paper = extreme(extreme(soft, reach, Math.max), reach, Math.min);
  return soft.data.map((value, at) => (paper.data[at] - value) / Math.max(0.1, paper.data[at]));
}

const quantile = (values, share) => Float32Array.from(values).sort()[Math.floor(share * values.length)];

// Grey levels -> the same, turned round where the ink is light on dark. Paper inside a loop stands
// out from the ink around it as well; but it is as bright as the paper at the rim.
function darkOnLight(grey) {
  const { wide, high, data } = grey, turned = { ...grey, data: data.map((value) => 1 - value) };
  const rim = data.filter((_, at) => at % wide === 0 || at % wide === wide - 1 || at < wide || at >= wide * (high - 1));
  const usual = quantile(rim, 0.5);
  const [dark, light] = [grey, turned].map((some) =>
    darkerThanAround(blurred(some)).reduce((sum, share, at) => sum + share * Math.abs(data[at] - usual), 0));
  return dark > light ? grey : turned;
}

// Grey levels of a photograph, dark ink on light paper, from 0 to 1 -> the ink; null where nothing
// stands out.
function inkOfPhoto(grey) {
  const ink = darkerThanAround(blurred(grey));
  const base = quantile(ink, 0.35), top = quantile(ink, 0.999) - base;
  if (top < 0.08) return null;
  const plane = { wide: grey.wide, high: grey.high, data: ink.map((value) => Math.max(0, (value - base) / top)) };
  const threshold = otsu(plane.data), { label, pieces } = piecesOf(plane, threshold);
  if (!pieces.length) return null;
  // What hangs at the rim, a desk or a finger, goes where there is anything else.
  const inner = pieces.filter((piece) => piece.rim <= 0.5 * piece.longest);
  const largest = (some) => Math.max(0, ...some.map((piece) => piece.area));
  const use = largest(inner) > 0.03 * largest(pieces) ? inner : pieces;
  const kept = new Set(use.filter((piece) => piece.area >= 0.05 * largest(use)).map((piece) => pieces.indexOf(piece)));
  const mask = { ...plane, data: plane.data.map((_, at) => (kept.has(label[at]) ? 1 : 0)) };
  // The soft rims around the digit belong to it; pen pressure does not (MNIST's is flat).
  const rim = extreme(mask, 3, Math.max), full = quantile(plane.data.filter((_, at) => mask.data[at]), 0.8);
  return { ...plane, data: plane.data.map((value, at) => rim.data[at] * Math.min(1, value / full)) };
}

// How far each pixel of ink lies from paper, roughly.
function depths({ wide, high, data }) {
  const far = new Float32Array(data.length);
  const at = (x, y) => (x < 0 || y < 0 || x >= wide || y >= high ? 0 : far[y * wide + x]);
  const nearest = (x, y, step) =>
    1 + Math.min(at(x - step, y), at(x, y - step), at(x - step, y - step) + 0.41, at(x + step, y - step) + 0.41);
  for (let y = 0; y < high; y++)
    for (let x = 0; x < wide; x++) if (data[y * wide + x] > 0.5) far[y * wide + x] = nearest(x, y, 1);
  for (let y = high - 1; y >= 0; y--)
    for (let x = wide - 1; x >= 0; x--)
      if (far[y * wide + x]) far[y * wide + x] = Math.min(far[y * wide + x], nearest(x, y, -1));
  return far.filter((depth) => depth > 0);
}

// Thicken strokes thinner than nearly all of MNIST's to its usual width.
function thick(ink) {
  const box = boxOf(ink), deep = depths(ink), side = box && Math.max(box.wide, box.high);
  if (!box || !deep.length) return ink;
  const width = 4 * (deep.reduce((a, b) => a + b) / deep.length - 0.5); // on a bar the mean depth is a quarter
  return width > 0.07 * side ? ink : extreme(ink, Math.max(1, Math.round((0.11 * side - width) / 2)), Math.max);
}
