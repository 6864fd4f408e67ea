// A line chart as SVG, drawn at its real size so that text keeps its size; moving the cursor does not redraw the lines.
// Used for the curves of a clip (x: frame) and for the terms of a training (x: step).

import { formatNumber, isFiniteNumber, node, pointerIn, svgNode } from './dom.js';

function linearTicks(low, high) {
  const raw = (high - low) / 3, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find(k => k * power >= raw * 0.999);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), ticks = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) {
    ticks.push({ at: k * step, text: digits > 4 ? formatNumber(k * step) : (k * step).toFixed(digits) });
  }
  return ticks;
}

function logTicks(low, high) {
  const decades = Math.log10(high / low), wanted = decades > 3 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5], ticks = [];
  const every = Math.ceil(decades / 6);
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    if (power % every) continue;
    for (const k of wanted) {
      const at = k * 10 ** power;
      if (at >= low * 0.999 && at <= high * 1.001) ticks.push({ at, text: at >= 0.01 && at < 1000 ? String(+at.toPrecision(2)) : at.toExponential(0) });
    }
  }
  return ticks;
}

// Centered moving mean over 2 * radius + 1 values.
function smoothed(values, radius) {
  return values.map((value, i) => {
    if (!isFiniteNumber(value)) return null;
    const near = values.slice(Math.max(0, i - radius), i + radius + 1).filter(isFiniteNumber);
    return near.reduce((sum, v) => sum + v, 0) / near.length;
  });
}

// Index of the number in the sorted list xs that is nearest to x.
export function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] <= x) low = middle; else high = middle;
  }
  return Math.abs(xs[high] - x) < Math.abs(xs[low] - x) ? high : low;
}

/**
 * Contents of a chart, the argument of set().
 * @typedef {object} ChartSpec
 * @property {string} title
 * @property {string} note  text after the title
 * @property {number[]} xs  sorted positions of the values
 * @property {{key: string, label: string, color: string, dash?: string, values: (number|null)[]}[]} series
 * @property {string} xName  name of the x axis
 * @property {function(number): string} [xText]  text of a position; String by default
 * @property {boolean} [log]  logarithmic y axis; values up to 0 are gaps
 * @property {number} [smooth]  radius of a moving mean, drawn over the pale values; 0: none
 * @property {number} [height]  in CSS pixels; 120 by default
 * @property {number[]} [marks]  positions marked below the x axis
 * @property {boolean} [brief]  numbers at the cursor without labels
 * @property {boolean} [drag]  whether dragging calls onPick; true by default
 * @property {function(number)} [onPick]  called with the position of a press or drag
 * @property {function()} [onTitle]  called at a click on the title
 * @property {function(number, string, Event)} [onOpen]  called at a click, with position and key of the nearest line
 * @property {function(number, string): string} [tip]  text at the pointer, from position and key of the nearest line
 */

export function lineChart(host) {
  const left = 46, right = 10, top = 8, bottom = 22;
  let spec = null, place = null, at = null, hover = null, lines = {}, numbers = [];
  const position = node('span', { className: 'chart-where' });
  const title = node('button', { type: 'button', className: 'chart-title' });
  const note = node('span', { className: 'chart-note' });
  const read = node('div', { className: 'chart-read' });
  const plot = svgNode('svg', { class: 'chart-plot', role: 'img' });
  const tip = node('div', { className: 'chart-tip', hidden: true });
  const figure = node('figure', { className: 'chart' }, node('figcaption', {}, title, note), plot, read, tip);
  host.append(figure);
  title.onclick = () => spec?.onTitle?.();

  function draw() {
    const width = Math.round(plot.clientWidth);
    if (!spec || width < 40) return;
    const height = spec.height || 120, { xs, series, log } = spec, usable = v => isFiniteNumber(v) && (!log || v > 0);
    plot.setAttribute('viewBox', `0 0 ${width} ${height}`);
    plot.style.height = `${height}px`;
    const drawn = series.map(s => ({ ...s, quiet: spec.smooth ? smoothed(s.values, spec.smooth) : s.values }));
    const all = series.flatMap(s => s.values).filter(usable);
    let low = all.length ? all.reduce((a, b) => Math.min(a, b)) : log ? 0.1 : 0;
    let high = all.length ? all.reduce((a, b) => Math.max(a, b)) : 1;
    if (log) { low /= 1.15; high *= 1.15; } else {
      const air = (high - low) * 0.06 || Math.abs(high) * 0.05 || 0.5;
      low -= air; high += air;
    }
    const first = xs[0] ?? 0, last = Math.max(xs[xs.length - 1] ?? 1, ...(spec.marks || [])), span = last - first || 1;
    const X = x => left + (width - left - right) * (x - first) / span;
    const share = log ? v => Math.log(v / low) / Math.log(high / low) : v => (v - low) / (high - low);
    const Y = v => top + (height - top - bottom) * (1 - share(v));
    place = { X, Y, usable, first, span, width };

    plot.replaceChildren(svgNode('title', {}, `${spec.title}; ${spec.note}`));
    for (const tick of log ? logTicks(low, high) : linearTicks(low, high)) {
      plot.append(svgNode('line', { class: 'chart-grid', x1: left, x2: width - right, y1: Y(tick.at), y2: Y(tick.at) }));
      plot.append(svgNode('text', { class: 'chart-tick', x: left - 6, y: Y(tick.at) + 4, 'text-anchor': 'end' }, tick.text));
    }
    const xText = spec.xText || String;
    plot.append(svgNode('text', { class: 'chart-tick', x: left, y: height - 5 }, `${spec.xName} ${xText(first)}`));
    plot.append(svgNode('text', { class: 'chart-tick', x: width - right, y: height - 5, 'text-anchor': 'end' }, xText(last)));
    for (const x of spec.marks || []) {
      const X0 = X(x), base = height - bottom;
      plot.append(svgNode('path', { class: 'chart-mark', d: `M${X0 - 4} ${base + 7}L${X0} ${base + 1}L${X0 + 4} ${base + 7}Z` }));
    }
    for (const one of drawn) {
      const put = (values, attributes) => {
        let d = '', pen = false;
        values.forEach((v, i) => {            // a gap where there is no number, a dot where a number has no neighbor
          if (!usable(v)) { pen = false; return; }
          const alone = !pen && !usable(values[i + 1]);
          d += `${pen ? 'L' : 'M'}${X(xs[i]).toFixed(1)} ${Y(v).toFixed(1)}${alone ? 'h0.01' : ''}`;
          pen = true;
        });
        plot.append(svgNode('path', { class: 'chart-line', d, stroke: one.color, 'data-key': one.key, ...attributes }));
      };
      if (spec.smooth) put(one.values, { 'stroke-opacity': 0.25, 'stroke-width': 1 });
      put(one.quiet, one.dash ? { 'stroke-dasharray': one.dash } : {});
    }
    numbers = spec.series.map(() => new Text());
    read.replaceChildren(position, ...spec.series.map((s, k) => (
      node('span', { title: s.label }, node('i', { className: 'dot', style: `background: ${s.color}` }), numbers[k]))));
    lines.hover = svgNode('line', { class: 'chart-hover', y1: top, y2: height - bottom });
    lines.cursor = svgNode('line', { class: 'chart-cursor', y1: top, y2: height - bottom });
    plot.append(lines.hover, lines.cursor);
    move();
  }

  function move() {
    if (!place) return;
    for (const [name, x] of [['cursor', at], ['hover', hover]]) {
      lines[name].style.display = x === null ? 'none' : '';
      if (x !== null) { lines[name].setAttribute('x1', place.X(x)); lines[name].setAttribute('x2', place.X(x)); }
    }
    const x = hover ?? at;
    read.hidden = x === null || !spec.xs.length;
    if (read.hidden) return;
    const i = nearest(spec.xs, x);
    position.textContent = `${spec.xName} ${(spec.xText || String)(spec.xs[i])}`;
    spec.series.forEach((s, k) => { numbers[k].data = spec.brief ? formatNumber(s.values[i]) : `${s.label} ${formatNumber(s.values[i])}`; });
  }

  const xAt = event => {
    const x = pointerIn(plot, event)[0] * place.width;
    return spec.xs[nearest(spec.xs, place.first + place.span * (x - left) / (place.width - left - right))];
  };
  const nearestLine = event => {                    // among lines with a number there
    const i = nearest(spec.xs, xAt(event)), y = event.clientY - plot.getBoundingClientRect().top;
    const present = spec.series.filter(s => place.usable(s.values[i])), distance = s => Math.abs(place.Y(s.values[i]) - y);
    return present.reduce((best, s) => (best && distance(best) <= distance(s) ? best : s), null)?.key ?? null;
  };
  const point = event => {
    const key = spec.tip ? nearestLine(event) : null;
    tip.hidden = key === null;
    if (tip.hidden) return;
    tip.textContent = spec.tip(hover, key);
    const box = figure.getBoundingClientRect(), at_ = event.clientX - box.left;
    tip.style.left = `${Math.max(0, Math.min(at_ + 12, box.width - tip.offsetWidth))}px`;
    tip.style.top = `${event.clientY - box.top + 16}px`;
  };
  const pick = event => spec.onPick?.(xAt(event));
  plot.addEventListener('pointerdown', event => {
    if (!place || !spec.xs.length) return;
    plot.setPointerCapture(event.pointerId);
    pick(event);
  });
  plot.addEventListener('pointermove', event => {
    if (!place || !spec.xs.length) return;
    hover = xAt(event);
    if (event.buttons && spec.drag !== false) pick(event);
    move();
    point(event);
  });
  plot.addEventListener('pointerleave', () => { hover = null; tip.hidden = true; move(); });
  plot.addEventListener('click', event => {
    const key = place && spec.onOpen && spec.xs.length ? nearestLine(event) : null;
    if (key !== null) spec.onOpen(xAt(event), key, event);
  });
  new ResizeObserver(draw).observe(plot);

  return {
    figure,
    set(next) {
      spec = next;
      title.textContent = spec.title;
      title.disabled = !spec.onTitle;
      note.textContent = spec.note;
      figure.classList.toggle('opens', !!spec.onOpen);
      plot.setAttribute('aria-label', `${spec.title}, ${spec.note}: ${spec.series.map(s => s.label).join(', ')}`);
      draw();
    },
    cursor(x) { at = x; move(); },
  };
}
