// Attention maps and memory cells: over the frames, next to each other, as differences, and as curves of similarity. A kind
// of map is { kind, label, explain, vmin, vmax, channels, stops, by_method: { method: { image_folder, vmin, vmax, channels } } }.

import { colorbar, colorImage, valueOf } from './colormap.js';
import { frameChart } from './curves.js';
import { clamp, formatNumber, isFiniteNumber, node, pointerIn } from './dom.js';

const TEACHER = 'teacher', MEMORY = 'memory';       // keys of a method and of a kind of map

export function createFeatureMaps(lens) {
  const { part, view, images } = lens;
  let views = [];                                   // [{ kind, keys, canvas, text }]: a map, or one map minus another
  let charts = [];

  const attentionKinds = () => lens.scene.overlays.filter(o => o.kind !== MEMORY);
  const attention = () => attentionKinds().find(o => o.kind === view.attention) || attentionKinds().find(o => o.kind.startsWith('attention')) || null;
  const memory = () => lens.scene.overlays.find(o => o.kind === MEMORY) || null;
  const methodsWith = kind => lens.scene.methods.map(m => m.key).filter(key => kind.by_method[key]);

  // The kinds whose maps are needed for every method.
  const visibleKinds = () => (view.showMaps ? [attention(), memory()] : [view.panels.has('differences') ? attention() : null]).filter(Boolean);

  // Limits of the colors, shared by all methods: those of the selected channel, where a map has several.
  function colorLimits(kind) {
    const limit = kind.channel_limits?.[Math.min(view.channel, kind.channel_limits.length - 1)];
    return limit ? [-limit, limit] : [kind.vmin, kind.vmax];
  }
  const channelOf = (kind, key) => Math.min(view.channel, kind.by_method[key].channels - 1);

  // Selected channel of one method's map, as a canvas; channels are stored one below the other.
  function colored(kind, key, entry) {
    const channel = channelOf(kind, key);
    if (entry.canvas && entry.channel === channel) return entry.canvas;
    const { width, gray } = entry, height = Math.floor(entry.height / kind.by_method[key].channels), first = channel * width * height;
    const canvas = node('canvas', { width, height });
    const image = colorImage(width, height, kind.stops, colorLimits(kind), i => valueOf(kind.by_method[key], gray[first + i]));
    canvas.getContext('2d').putImageData(image, 0, 0);
    Object.assign(entry, { canvas, channel });
    return canvas;
  }

  function valueAt(kind, key, [x, y]) {
    const entry = images.overlayEntry(kind, key);
    if (!entry) return null;
    const height = Math.floor(entry.height / kind.by_method[key].channels);
    const column = clamp(Math.floor(x / lens.scene.width * entry.width), 0, entry.width - 1);
    const row = clamp(Math.floor(y / lens.scene.height * height), 0, height - 1);
    return valueOf(kind.by_method[key], entry.gray[(channelOf(kind, key) * height + row) * entry.width + column]);
  }

  // Each student minus the teacher, and the distilled student minus the plain one.
  function pairs() {
    const kind = attention(), present = kind ? methodsWith(kind) : [];
    const distilled = ['distilled', 'student'].find(key => present.includes(key));
    return [
      ...(present.includes(TEACHER) ? present.filter(key => key !== TEACHER).map(key => [key, TEACHER]) : []),
      ...(distilled && present.includes('plain') ? [[distilled, 'plain']] : []),
    ];
  }

  function make() {
    const counts = [];
    views = [];
    for (const [name, kind] of [['attention', attention()], ['memory', memory()]]) {
      const keys = kind && view.showMaps ? methodsWith(kind) : [];
      counts.push(keys.length);
      part(`${name}-maps`).replaceChildren(...keys.map(key => addView(kind, [key])));
      part(`${name}-colorbar`).replaceChildren(...(keys.length ? [colorbar(kind.stops, colorLimits(kind))] : []));
      part(`${name}-colorbar`).parentElement.title = kind?.explain || '';
    }
    const single = counts.every(count => count <= 1);   // of each kind, so that maps leave height for the loupe
    part('side').classList.toggle('one-map', single && !counts.every(Boolean));
    part('side').classList.toggle('two-maps', single && counts.every(Boolean));
    const kind = attention(), open = kind && view.panels.has('differences'), limit = kind?.difference_limit;
    part('difference-maps').replaceChildren(...(open ? pairs().map(keys => addView(kind, keys)) : []));
    part('difference-colorbar').replaceChildren(...(open && limit ? [colorbar(lens.scene.diverging, [-limit, limit])] : []));
    makeLegend();
    draw();
  }

  function addView(kind, keys) {
    const { width, height } = lens.scene, text = node('span', { className: 'lens-caption' }), title = keys.map(key => lens.method(key).label).join(' − ');
    const canvas = node('canvas', { width: 1, height: 1, role: 'img', ariaLabel: `${kind.label}: ${title}`, style: `aspect-ratio: ${width} / ${height}; --aspect: ${width / height}` });
    const point = event => lens.loupe.pointAt(...pointerIn(canvas, event).map((share, i) => share * [width, height][i]));
    canvas.onpointermove = event => { if (!view.pinned) point(event); };
    canvas.onclick = event => { view.pinned = !view.pinned; point(event); };
    views.push({ kind, keys, canvas, text });
    return node('div', { className: 'lens-map' }, node('span', { className: 'lens-name', title }, ...keys.map(lens.dot), title), canvas, text);
  }

  function draw() {
    charts.forEach(chart => chart.cursor(lens.frame));
    for (const { kind, keys, canvas } of views) {
      const entries = keys.map(key => images.overlayEntry(kind, key)), context = canvas.getContext('2d');
      if (entries.some(entry => !entry)) { context.clearRect(0, 0, canvas.width, canvas.height); continue; }
      if (entries.some(entry => entry.width !== entries[0].width || entry.height !== entries[0].height)) continue;   // no difference
      const { width } = entries[0], height = Math.floor(entries[0].height / kind.by_method[keys[0]].channels);
      const limit = kind.difference_limit || kind.vmax - kind.vmin;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const value = (k, i) => valueOf(kind.by_method[keys[k]], entries[k].gray[i]);
      if (keys.length === 1) context.drawImage(colored(kind, keys[0], entries[0]), 0, 0);
      else context.putImageData(colorImage(width, height, lens.scene.diverging, [-limit, limit], i => value(0, i) - value(1, i)), 0, 0);
    }
    updateReadouts();
  }

  // Numbers under the maps and in the legend: the values at the point of the loupe.
  function updateReadouts() {
    for (const { kind, keys, text } of views) {
      const values = keys.map(key => valueAt(kind, key, view.point)), pair = keys.length > 1;
      const value = pair ? values[0] - values[1] : values[0], hasCosine = !pair || keys[1] === TEACHER;
      const cosine = hasCosine ? kind.cosine_to_teacher[keys[0]]?.[lens.frame] : null;
      text.textContent = values.every(isFiniteNumber)
        ? `pixel ${value > 0 && pair ? '+' : ''}${formatNumber(value)}${isFiniteNumber(cosine) ? ` · cosine ${cosine.toFixed(3)}` : ''}` : 'no map';
    }
    const kind = lens.overlay();
    part('legend').querySelector('.lens-values')?.replaceChildren(...(kind ? lens.visibleMethods() : []).map(key => (
      node('span', {}, lens.dot(key), `${lens.method(key).label} ${kind.by_method[key] ? formatNumber(valueAt(kind, key, view.point)) : 'no map'}`))));
  }

  function makeLegend() {
    const kind = lens.overlay(), legend = part('legend');
    legend.hidden = !kind || view.layout === 'difference';
    legend.replaceChildren(...(kind ? [
      node('b', { textContent: kind.label }), colorbar(kind.stops, colorLimits(kind)),
      node('span', { className: 'lens-values' }), node('span', { className: 'lens-explain', textContent: kind.explain })] : []));
  }

  // Cosine to the teacher, frame by frame.
  function makeSimilarity() {
    const { methods, memory: verdict } = lens.scene, kinds = [[attention(), 'Attention cosine'], [memory(), 'Memory cell cosine']];
    part('similarity').replaceChildren();
    part('memory-verdict').textContent = verdict ? `${verdict.verdict} ${verdict.numbers}` : '';
    charts = kinds.filter(([kind]) => kind && Object.keys(kind.cosine_to_teacher).length).map(([kind, title]) => frameChart(lens, part('similarity'), {
      title, note: 'with the teacher · 1: proportional', height: 96,
      series: methods.filter(m => kind.cosine_to_teacher[m.key]).map(m => (
        { key: m.key, label: m.label, color: m.color, values: kind.cosine_to_teacher[m.key] })),
    }));
  }

  return { attentionKinds, attention, memory, visibleKinds, pairs, make, makeSimilarity, draw, updateReadouts, colored, valueAt };
}
