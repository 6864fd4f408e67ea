// Attention maps and memory cells: over the frames, next to each other, as differences, and as curves of similarity.

import { colorImage, scaleBar, valueOf } from './colormap.js';
import { frameChart } from './curves.js';
import { clamp, exists, node, pointerIn, short } from './dom.js';

const TEACHER = 'teacher', MEMORY = 'memory';   // keys of a method and of a kind of map

export function createFeatureMaps(lens) {
  const { part, view, images } = lens;
  let views = [];                                   // [{ map, keys, canvas, text }]: a map, or one map minus another
  let charts = [];

  const attentionKinds = () => lens.scene.overlays.filter(o => o.kind !== MEMORY);
  const attention = () => attentionKinds().find(o => o.kind === view.attention) || attentionKinds().find(o => o.kind.startsWith('attention')) || null;
  const memory = () => lens.scene.overlays.find(o => o.kind === MEMORY) || null;

  // The kinds whose maps are needed for every method.
  const shown = () => (view.maps ? [attention(), memory()] : [view.panels.has('differences') ? attention() : null]).filter(Boolean);

  // The scale that all methods share: of the channel on show, where a map has several.
  function scaleOf(map) {
    const limit = map.limits?.[Math.min(view.channel, map.limits.length - 1)];
    return limit ? [-limit, limit] : [map.vmin, map.vmax];
  }
  const channelOf = (map, key) => Math.min(view.channel, map.maps[key].channels - 1);

  // Channel on show of one method's map, as a canvas; channels are stored one below the other.
  function colored(map, key, entry) {
    const channel = channelOf(map, key);
    if (entry.canvas && entry.channel === channel) return entry.canvas;
    const { width, gray } = entry, height = Math.floor(entry.height / map.maps[key].channels), first = channel * width * height;
    const canvas = node('canvas', { width, height });
    canvas.getContext('2d').putImageData(colorImage(width, height, map.stops, scaleOf(map), i => valueOf(map.maps[key], gray[first + i])), 0, 0);
    Object.assign(entry, { canvas, channel });
    return canvas;
  }

  function valueAt(map, key, [x, y]) {
    const entry = images.map(map, key);
    if (!entry) return null;
    const height = Math.floor(entry.height / map.maps[key].channels);
    const column = clamp(Math.floor(x / lens.scene.width * entry.width), 0, entry.width - 1);
    const row = clamp(Math.floor(y / lens.scene.height * height), 0, height - 1);
    return valueOf(map.maps[key], entry.gray[(channelOf(map, key) * height + row) * entry.width + column]);
  }

  // Each student minus the teacher, and the distilled student minus the plain one.
  function pairs() {
    const map = attention(), present = map ? lens.scene.methods.map(m => m.key).filter(key => map.maps[key]) : [];
    const distilled = ['distilled', 'student'].find(key => present.includes(key));
    return [
      ...(present.includes(TEACHER) ? present.filter(key => key !== TEACHER).map(key => [key, TEACHER]) : []),
      ...(distilled && present.includes('plain') ? [[distilled, 'plain']] : []),
    ];
  }

  function make() {
    const map = attention();
    views = [];
    for (const [name, kind] of [['attention', map], ['cell', memory()]]) {
      const keys = kind && view.maps ? lens.scene.methods.map(m => m.key).filter(key => kind.maps[key]) : [];
      part(`${name}-maps`).replaceChildren(...keys.map(key => addView(kind, [key])));
      part(`${name}-scale`).replaceChildren(...(keys.length ? [scaleBar(kind.stops, scaleOf(kind))] : []));
      part(`${name}-scale`).parentElement.title = kind?.explain || '';
    }
    const open = map && view.panels.has('differences');
    part('difference-maps').replaceChildren(...(open ? pairs().map(keys => addView(map, keys)) : []));
    part('difference-scale').replaceChildren(...(open && map.difference_limit ? [scaleBar(lens.scene.diverging, [-map.difference_limit, map.difference_limit])] : []));
    makeLegend();
    draw();
  }

  function addView(map, keys) {
    const { width, height } = lens.scene, text = node('span', { className: 'lens-caption' }), title = keys.map(key => lens.method(key).label).join(' − ');
    const canvas = node('canvas', { width: 1, height: 1, role: 'img', ariaLabel: `${map.label}: ${title}`, style: `aspect-ratio: ${width} / ${height}` });
    const point = event => lens.loupe.pointAt(...pointerIn(canvas, event).map((share, i) => share * [width, height][i]));
    canvas.onpointermove = event => { if (!view.pinned) point(event); };
    canvas.onclick = event => { view.pinned = !view.pinned; point(event); };
    views.push({ map, keys, canvas, text });
    return node('div', { className: 'lens-map' }, node('span', { className: 'lens-name', title }, ...keys.map(lens.dot), title), canvas, text);
  }

  function draw() {
    charts.forEach(chart => chart.cursor(lens.frame));
    for (const { map, keys, canvas } of views) {
      const entries = keys.map(key => images.map(map, key)), context = canvas.getContext('2d');
      if (entries.some(entry => !entry)) { context.clearRect(0, 0, canvas.width, canvas.height); continue; }
      if (entries.some(entry => entry.width !== entries[0].width || entry.height !== entries[0].height)) continue;   // no difference
      const { width } = entries[0], height = Math.floor(entries[0].height / map.maps[keys[0]].channels), end = map.difference_limit || map.vmax - map.vmin;
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const value = (k, i) => valueOf(map.maps[keys[k]], entries[k].gray[i]);
      if (keys.length === 1) context.drawImage(colored(map, keys[0], entries[0]), 0, 0);
      else context.putImageData(colorImage(width, height, lens.scene.diverging, [-end, end], i => value(0, i) - value(1, i)), 0, 0);
    }
    read();
  }

  // Numbers under the maps and in the legend: the values at the point of the loupe.
  function read() {
    for (const { map, keys, text } of views) {
      const values = keys.map(key => valueAt(map, key, view.point)), pair = keys.length > 1;
      const value = pair ? values[0] - values[1] : values[0], cosine = (!pair || keys[1] === TEACHER) && map.overlap?.[keys[0]]?.[lens.frame];
      text.textContent = values.every(exists)
        ? `pixel ${value > 0 && pair ? '+' : ''}${short(value)}${exists(cosine) ? ` · ${map.channels > 1 ? 'cosine' : 'overlap'} ${cosine.toFixed(3)}` : ''}` : 'no map';
    }
    const map = lens.overlay();
    part('legend').querySelector('.lens-values')?.replaceChildren(...(map ? lens.shown() : []).map(key => (
      node('span', {}, lens.dot(key), `${lens.method(key).label} ${map.maps[key] ? short(valueAt(map, key, view.point)) : 'no map'}`))));
  }

  function makeLegend() {
    const map = lens.overlay(), legend = part('legend');
    legend.hidden = !map || view.layout === 'difference';
    legend.replaceChildren(...(map ? [
      node('b', { textContent: map.label }), scaleBar(map.stops, scaleOf(map)),
      node('span', { className: 'lens-values' }), node('span', { className: 'lens-explain', textContent: map.explain })] : []));
  }

  // Similarity to the teacher, frame by frame: overlap of the attention maps, cosine of the memory cells.
  function makeSimilarity() {
    const { methods } = lens.scene, verdict = lens.scene.memory, kinds = [[attention(), 'Attention overlap'], [memory(), 'Memory cell cosine']];
    part('similarity').replaceChildren();
    part('memory').textContent = verdict ? `${verdict.verdict} ${verdict.numbers}` : '';
    charts = kinds.filter(([map]) => map && Object.keys(map.overlap).length).map(([map, title]) => frameChart(lens, part('similarity'), {
      title, note: 'with the teacher · 1: proportional', height: 96,
      series: methods.filter(m => map.overlap[m.key]).map(m => ({ key: m.key, label: m.label, color: m.color, values: map.overlap[m.key] })),
    }));
  }

  return { attentionKinds, attention, memory, shown, pairs, make, makeSimilarity, draw, read, colored, valueAt };
}
