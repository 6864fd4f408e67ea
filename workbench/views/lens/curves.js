// Curves of the scores, frame by frame, and the frames with the worst scores.

import { lineChart } from './chart.js';
import { imageUrl } from './image_cache.js';
import { formatNumber, isFiniteNumber, node, range } from './dom.js';

const MAX_THUMBNAILS = 12;

// A chart of numbers per frame; a click goes to the frame.
export function frameChart(lens, host, spec) {
  const chart = lineChart(host);
  chart.set({ xs: range(lens.scene.frame_count), xName: 'frame', xText: x => String(x + 1), brief: true, onPick: lens.player.seek, ...spec });
  chart.cursor(lens.frame);
  return chart;
}

export function createCurves(lens) {
  const { part, view } = lens;
  let charts = [], request = 0;

  const methodsWithScores = curve => lens.scene.methods.filter(m => curve.series[m.key]?.some(isFiniteNumber));

  function make() {
    const seen = new Set(), dashes = {};
    for (const m of lens.scene.methods) {           // two methods of one color differ in their dashes
      dashes[m.key] = seen.has(m.color) ? '5 3' : '';
      seen.add(m.color);
    }
    part('curve-legend').replaceChildren(...lens.scene.methods.filter(m => lens.scene.curves.some(curve => methodsWithScores(curve).includes(m))).map(m => {
      const onclick = () => {
        if (!view.hiddenInCharts.delete(m.key)) view.hiddenInCharts.add(m.key);
        make();
      };
      return node('button', { type: 'button', title: m.note, ariaPressed: !view.hiddenInCharts.has(m.key), onclick }, lens.dot(m.key), m.label);
    }));
    part('curves').replaceChildren();
    charts = lens.scene.curves.map(curve => {
      const chart = frameChart(lens, part('curves'), {
        title: curve.label, note: [curve.unit, `${curve.better} is better`].filter(Boolean).join(' · '), height: 118,
        series: methodsWithScores(curve).filter(m => !view.hiddenInCharts.has(m.key)).map(m => (
          { key: m.key, label: m.label, color: m.color, dash: dashes[m.key], values: curve.series[m.key] })),
        onTitle: () => { view.score = curve.key; markScore(); lens.label(); makeWorst(); },
      });
      chart.figure.dataset.key = curve.key;
      return chart;
    });
    markScore();
  }

  function markScore() {
    for (const { figure } of charts) figure.classList.toggle('scored', figure.dataset.key === view.score);
  }

  function makeWorst() {
    const mine = ++request, curve = lens.score();
    part('worst-frames').replaceChildren();
    if (!view.panels.has('worst') || !curve) return;
    const methods = methodsWithScores(curve), keys = methods.map(m => m.key);
    const key = [view.worst, view.right].find(one => keys.includes(one)) ?? keys.at(-1);
    part('worst-of').replaceChildren(...methods.map(m => node('option', { value: m.key, textContent: m.label })));
    part('worst-of').value = key;
    part('worst-by').textContent = `by ${curve.label}${curve.unit ? ` (${curve.unit})` : ''}; click the title of a curve for another score`;
    const values = curve.series[key] || [], sign = curve.better === 'higher' ? 1 : -1, width = Math.min(lens.scene.width, 160);
    const height = Math.max(1, Math.round(width * lens.scene.height / lens.scene.width));
    const order = range(values.length).filter(i => isFiniteNumber(values[i])).sort((a, b) => sign * (values[a] - values[b])).slice(0, MAX_THUMBNAILS);
    part('worst-frames').append(...order.map(index => {
      const canvas = node('canvas', { width, height }), context = canvas.getContext('2d');
      context.imageSmoothingQuality = 'high';
      lens.images.fetchLowPriority(imageUrl(lens.method(key).image_folder, index), bitmap => context.drawImage(bitmap, 0, 0, width, height), () => mine !== request);
      return node('button', { type: 'button', dataset: { at: index }, onclick: () => lens.player.seek(index) }, canvas, `frame ${index + 1} · ${formatNumber(values[index])}`);
    }));
  }

  return { make, makeWorst, cursor: frame => charts.forEach(chart => chart.cursor(frame)) };
}
