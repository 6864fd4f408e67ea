// --------------------------------------------------------------------------------------------------- curves and legend

let charts = [];

function makeCurves() {
  const seen = new Set(), dashes = {};
  for (const m of scene.methods) {                  // two methods of one colour are told apart by dashes
    dashes[m.key] = seen.has(m.colour) ? '5 3' : '';
    seen.add(m.colour);
  }
  const counted = scene.methods.filter(m => scene.curves.some(c => c.series[m.key]?.some(exists)));
  part('key').replaceChildren(...counted.map(m => {
    const button = node('button', { type: 'button', title: m.note }, dot(m.key), m.label);
    button.setAttribute('aria-pressed', !view.muted.has(m.key));
    button.onclick = () => {
      if (!view.muted.delete(m.key)) view.muted.add(m.key);
      makeCurves();
    };
    return button;
  }));
  part('curves').replaceChildren();
  charts = scene.curves.map(curve => {
    const chart = lineChart(part('curves'));
    chart.figure.classList.toggle('scored', curve.key === view.score);
    chart.figure.dataset.key = curve.key;
    chart.set({
      title: curve.label, note: [curve.unit, `${curve.better} is better`].filter(Boolean).join(' · '),
      xs: Array.from({ length: scene.frames }, (_, i) => i), xName: 'frame', xText: x => String(x + 1), height: 118, brief: true,
      series: counted.filter(m => !view.muted.has(m.key) && curve.series[m.key]?.some(exists)).map(m => (
        { key: m.key, label: m.label, colour: m.colour, dash: dashes[m.key], values: curve.series[m.key] })),
      onPick: seek,
      onTitle: () => { view.score = curve.key; charts.forEach(c => c.figure.classList.toggle('scored', c.figure.dataset.key === curve.key)); marks(); makeWorst(); },
    });
    chart.cursor(frame);
    return chart;
  });
}

// ------------------------------------------------------------------ worst frames first: a contact sheet, a click goes there

const MOST = 12;
let sheeting = 0;

function makeWorst() {
  const mine = ++sheeting, curve = scene.curves.find(c => c.key === view.score);
  part('thumbs').replaceChildren();
  if (!view.panels.has('worst') || !curve) return;
  const scored = scene.methods.filter(m => curve.series[m.key]?.some(exists)), keys = scored.map(m => m.key);
  const key = keys.includes(view.worst) ? view.worst : keys.includes(view.right) ? view.right : keys[keys.length - 1];
  part('worst-of').replaceChildren(...scored.map(m => node('option', { value: m.key, textContent: m.label })));
  part('worst-of').value = key;
  part('worst-by').textContent = `by ${curve.label}${curve.unit ? ` (${curve.unit})` : ''}; a curve’s title chooses another score`;
  const values = curve.series[key] || [], sign = curve.better === 'higher' ? 1 : -1;
  const order = values.map((_, i) => i).filter(i => exists(values[i])).sort((a, b) => sign * (values[a] - values[b])).slice(0, MOST);
  const width = Math.min(scene.width, 160), height = Math.max(1, Math.round(width * scene.height / scene.width));
  part('thumbs').append(...order.map(index => {
    const canvas = node('canvas', { width, height }), button = node('button', { type: 'button' }, canvas, `frame ${index + 1} · ${short(values[index])}`);
    button.dataset.at = index;
    button.onclick = () => seek(index);
    const context = canvas.getContext('2d');
    context.imageSmoothingQuality = 'high';
    glimpse(addressOf(method(key).frames, index), bitmap => context.drawImage(bitmap, 0, 0, width, height), () => mine !== sheeting);
    return button;
  }));
}
