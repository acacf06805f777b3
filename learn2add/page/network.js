// The network in plain JavaScript: what network.py computes, one image at a time.
//
// A "map" is {channels, side, data}: a Float32Array of channels x side x side. Convolutions run over
// padded planes as over one long row, so that the inner loop has no borders to look out for; the
// last places of each row then hold nothing of use and are left out of the result.
"use strict";

function linear(x, weight, bias) {
  const y = new Float32Array(bias.length);
  for (let o = 0, at = 0; o < y.length; o++) {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += weight[at++] * x[i];
    y[o] = sum + bias[o];
  }
  return y;
}

function relu(x) {
  for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] = 0;
  return x;
}

function silu(x) {
  for (let i = 0; i < x.length; i++) x[i] /= 1 + Math.exp(-x[i]);
  return x;
}

function sigmoid(x) {
  for (let i = 0; i < x.length; i++) x[i] = 1 / (1 + Math.exp(-x[i]));
  return x;
}

function softmax(x) {
  const top = Math.max(...x), powers = Array.from(x, (value) => Math.exp(value - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

// Copy each plane into one that is `before` wider on the left and above, `after` right and below.
function padded({ channels, side, data }, before, after) {
  const wide = side + before + after, planes = new Float32Array(channels * wide * wide + wide + after);
  for (let c = 0; c < channels; c++)
    for (let row = 0; row < side; row++) {
      const from = (c * side + row) * side;
      planes.set(data.subarray(from, from + side), (c * wide + row + before) * wide + before);
    }
  return { wide, planes };
}

// "Same" convolution with a kernel of 3 or 5: weight [out, in, kernel, kernel].
function convolve(map, weight, bias, kernel) {
  const { channels, side } = map, half = kernel >> 1, taps = kernel * kernel;
  const { wide, planes } = padded(map, half, half), size = wide * wide, length = side * wide;
  const data = new Float32Array(bias.length * side * side), sums = new Float32Array(length);
  for (let o = 0; o < bias.length; o++) {
    sums.fill(bias[o]);
    for (let c = 0; c < channels; c++) {
      const w = (o * channels + c) * taps;
      for (let row = 0; row < kernel; row++)
        addRow(sums, planes, c * size + row * wide, weight, w + row * kernel, kernel, length);
    }
    for (let row = 0; row < side; row++)
      data.set(sums.subarray(row * wide, row * wide + side), (o * side + row) * side);
  }
  return { channels: bias.length, side, data };
}

// Add one row of a kernel, 3 or 5 taps, over a whole plane.
function addRow(sums, planes, at, weight, w, kernel, length) {
  const a = weight[w], b = weight[w + 1], c = weight[w + 2];
  if (kernel === 3) {
    for (let p = 0, q = at; p < length; p++, q++)
      sums[p] += a * planes[q] + b * planes[q + 1] + c * planes[q + 2];
  } else {
    const d = weight[w + 3], e = weight[w + 4];
    for (let p = 0, q = at; p < length; p++, q++)
      sums[p] += a * planes[q] + b * planes[q + 1] + c * planes[q + 2] + d * planes[q + 3] + e * planes[q + 4];
  }
}

function maxPool({ channels, side, data }) {
  const half = side >> 1, pooled = new Float32Array(channels * half * half);
  for (let c = 0, to = 0; c < channels; c++)
    for (let row = 0; row < half; row++)
      for (let column = 0; column < half; column++) {
        const at = (c * side + 2 * row) * side + 2 * column, below = at + side;
        pooled[to++] = Math.max(data[at], data[at + 1], data[below], data[below + 1]);
      }
  return { channels, side: half, data: pooled };
}

// Transposed convolution, kernel 3, stride 2, padding 1, output padding 1: weight [in, out, 3, 3].
// Of the four pixels that a value and its neighbours write, each is a sum of 1, 2, 2 or 4 products.
function transposed(map, weight, bias) {
  const { channels, side } = map, { wide, planes } = padded(map, 0, 1);
  const size = wide * wide, length = side * wide, twice = 2 * side, outputs = bias.length;
  const data = new Float32Array(outputs * twice * twice);
  const parts = [0, 1, 2, 3].map(() => new Float32Array(length));
  const [ee, eo, oe, oo] = parts;
  for (let o = 0; o < outputs; o++) {
    for (const part of parts) part.fill(bias[o]);
    for (let c = 0; c < channels; c++) {
      const w = weight.subarray((c * outputs + o) * 9, (c * outputs + o) * 9 + 9);
      const [w0, w1, w2, w3, w4, w5, w6, w7, w8] = w;
      for (let p = 0, q = c * size; p < length; p++, q++) {
        const here = planes[q], right = planes[q + 1], below = planes[q + wide], across = planes[q + wide + 1];
        ee[p] += w4 * here;
        eo[p] += w5 * here + w3 * right;
        oe[p] += w7 * here + w1 * below;
        oo[p] += w8 * here + w6 * right + w2 * below + w0 * across;
      }
    }
    for (let row = 0; row < side; row++)
      for (let column = 0; column < side; column++) {
        const p = row * wide + column, at = (o * twice + 2 * row) * twice + 2 * column;
        data[at] = ee[p];
        data[at + 1] = eo[p];
        data[at + twice] = oe[p];
        data[at + twice + 1] = oo[p];
      }
  }
  return { channels: outputs, side: twice, data };
}

// Transposed convolution of stride 1: the convolution with the kernel turned round.
function transposedSame(map, weight, bias) {
  const outputs = bias.length, turned = new Float32Array(weight.length);
  for (let c = 0; c < map.channels; c++)
    for (let o = 0; o < outputs; o++)
      for (let tap = 0; tap < 9; tap++)
        turned[(o * map.channels + c) * 9 + tap] = weight[(c * outputs + o) * 9 + 8 - tap];
  return convolve(map, turned, bias, 3);
}

function doubled({ channels, side, data }) {
  const twice = 2 * side, copied = new Float32Array(channels * twice * twice);
  for (let c = 0, to = 0; c < channels; c++)
    for (let row = 0; row < twice; row++)
      for (let column = 0; column < twice; column++)
        copied[to++] = data[(c * side + (row >> 1)) * side + (column >> 1)];
  return { channels, side: twice, data: copied };
}

// Standard normal numbers, by Box and Muller.
function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

// One trained model: E, P and D. `weights` are Float32Arrays by torch's names.
class AdditionModel {
  constructor(facts, weights) {
    Object.assign(this, facts);
    this.weights = weights;
    this.hidden = "encoder.hidden.0.weight" in weights ? "encoder.hidden.0" : "encoder.hidden";
    this.generative = "adder.logvar.weight" in weights;
  }

  layer(name, x) {
    return linear(x, this.weights[`${name}.weight`], this.weights[`${name}.bias`]);
  }

  convolved(name, map) {
    return convolve(map, this.weights[`${name}.weight`], this.weights[`${name}.bias`], 3);
  }

  // x: 784 numbers from 0 to 1 -> {z, maps}
  encode(x) {
    let map = { channels: 1, side: this.side, data: x };
    const maps = [];
    for (const layer of [0, 3, 6]) {
      map = maxPool(this.convolved(`encoder.features.${layer}`, map));
      relu(map.data);
      maps.push(map);
    }
    const hidden = this.layer(this.hidden, map.data);
    return { z: this.layer("encoder.code", this.activation === "relu" ? relu(hidden) : hidden), maps };
  }

  // z, an addend -> {path, widths}: the code after each step, the sum's last.
  add(z, addend, sampled = false) {
    if (this.rule === "counting") return { path: this.count(z, addend) };
    if (this.rule === "matrix") return { path: [z, this.multiply(z, addend)] };
    const given = this.embed_addend ? relu(this.layer("adder.embedding.0", [addend])) : [addend];
    let h = Float32Array.from([...z, ...given]);
    for (const layer of [0, 2, 4]) h = relu(this.layer(`adder.layers.${layer}`, h));
    const sum = this.layer("adder.layers.6", h);
    if (sampled && this.generative) {
      const logvar = this.layer("adder.logvar", h);
      for (let i = 0; i < sum.length; i++)
        sum[i] += Math.exp(0.5 * Math.min(10, Math.max(-10, logvar[i]))) * normal();
    }
    return { path: [z, sum], hidden: h };
  }

  count(z, addend) {
    const path = [z];
    for (let left = addend; left > 1e-9; left--) {
      const part = Math.min(left, 1), last = path[path.length - 1];
      let step = silu(this.layer("adder.step.0", last));
      step = this.layer("adder.step.4", silu(this.layer("adder.step.2", step)));
      path.push(last.map((value, i) => value + part * step[i]));
    }
    return path;
  }

  multiply(z, addend) {
    let h = this.layer("adder.lift.2", silu(this.layer("adder.lift.0", z)));
    for (let left = addend; left > 1e-9; left--) {
      const part = Math.min(left, 1), next = this.layer("adder.one_more", h);
      h = h.map((value, i) => value + part * (next[i] - value));
    }
    return this.layer("adder.lower.2", silu(this.layer("adder.lower.0", h)));
  }

  // z -> {image, maps}: 784 numbers from 0 to 1, and what the layers before it made.
  decode(z) {
    const start = relu(this.layer("decoder.expand.2", relu(this.layer("decoder.expand.0", z))));
    let map = { channels: 128, side: this.side >> 2, data: start };
    const maps = [map], { weights } = this, up = this.decoder === "conv_transpose";
    const part = (i) => [weights[`decoder.layers.${i}.weight`], weights[`decoder.layers.${i}.bias`]];
    for (const layer of [1, 2]) {
      map = up ? transposed(map, ...part(2 * layer - 2)) : this.convolved(`decoder.convolution${layer}`, doubled(map));
      relu(map.data);
      maps.push(map);
    }
    map = up ? transposedSame(map, ...part(4)) : this.convolved("decoder.convolution3", map);
    return { image: sigmoid(map.data), maps };
  }
}

// The classifier that reads what is drawn. Its normalisations have become a scale and a shift.
class Judge {
  constructor(weights) {
    this.weights = weights;
  }

  // 784 numbers from 0 to 1 -> ten probabilities.
  read(x) {
    let map = { channels: 1, side: 28, data: x };
    for (const [i, [kernel, pool]] of [[5, true], [3, false], [3, true], [3, false], [3, false]].entries()) {
      const scale = this.weights[`${i}.scale`], shift = this.weights[`${i}.shift`];
      map = convolve(map, this.weights[`${i}.weight`], new Float32Array(scale.length), kernel);
      if (pool) map = maxPool(map);
      const size = map.side ** 2;
      for (let at = 0; at < map.data.length; at++) {
        const c = Math.floor(at / size);
        map.data[at] = Math.max(0, map.data[at] * scale[c] + shift[c]);
      }
    }
    const size = map.side ** 2, means = new Float32Array(map.channels);
    for (let c = 0; c < map.channels; c++)
      means[c] = map.data.subarray(c * size, (c + 1) * size).reduce((a, b) => a + b) / size;
    return softmax(linear(means, this.weights["head.weight"], this.weights["head.bias"]));
  }
}
